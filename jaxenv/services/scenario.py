"""Sizes and scenario of the services system: built, defaulted, checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxenv.data import eua, measured
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError
from jaxenv.physics import graphs
from jaxenv.services.catalogue import Service
from jaxenv.services.description import (
    assigned,
    names_of,
    network_of,
    published,
    services_of,
    users_of,
    with_measured,
)
from jaxenv.services.network import Network, default_network
from jaxenv.services.params import ServicesParams
from jaxenv.services.state import ServicesState
from jaxenv.validation import (
    NOT_NEGATIVE,
    POSITIVE,
    check_array,
    check_choice,
    check_fields,
    check_leaves,
)

PRESETS = {"literal": 1.0, "percent": 100.0}  # scale of accuracies beside a penalty of -100
REFUSED = 1e9  # size factor of padded configurations, and MB of padded models: never admitted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario(Environment[ServicesState, ServicesParams]):
    """Sizes and options of the services system, and the scenario at them.

    num_agents: n; agent ``i`` serves service ``params.service[i]``, by default equally many each,
    in the order of the services. service_names: S of them. num_servers: K. max_configs, max_models,
    max_delays: C, M, L after padding. agent_metrics: adds the metrics of every single agent.
    """

    num_agents: int = 8
    service_names: tuple[str, ...] = ("detection", "tracking")
    num_servers: int = 16
    max_configs: int = 16
    max_models: int = 4
    max_delays: int = 6
    agent_metrics: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("num_agents", "num_servers", "max_configs", "max_models", "max_delays")
        check_fields(self, dict.fromkeys(sizes, 1))
        object.__setattr__(self, "service_names", names_of(self.service_names))

    @property
    def num_services(self) -> int:
        """S."""
        return len(self.service_names)

    @classmethod
    def build(cls, **options: Any) -> tuple[Self, ServicesParams]:
        """Sizes, leaves of the scenario, and these ways of describing one:

        preset: ``literal``, or ``percent``: accuracies count 100 times as much. services: a list of
        `Service`, or of mappings of its fields; they size the environment. agents_per_service: how
        many agents of each. accuracy, data_size: a CSV of `jaxenv.data.accuracy`, in place of the
        accuracies, or the size factors, of the services that it names. sites: positions of servers
        ``[K, 2]`` in m, linked where nearer than 500 m and where else the network needs it; or the
        path of a CSV of the EUA data, of which ``num_servers`` are drawn. users: positions
        ``[users, 2]`` in m beside those of ``sites``, or a CSV beside a CSV; a request arrives at a
        server as often as users have it as their nearest. scenario_seed: draws the
        rates of links and the servers, and of a CSV the sites; without it they are those of
        `default_network` or, with ``sites``, of seed 0. uplinks: path of a CSV file with the column
        ``rate [bit/s]``, one row per server in their order. path_metric: shortest paths by
        ``delay`` or ``hops``.
        """
        described = {name: options.pop(name, None) for name in _DESCRIPTIONS}
        if described["services"] is None:
            offered = published(len(names_of(options.get("service_names", cls.service_names))))
        else:
            offered = services_of(described["services"])
            options.setdefault("service_names", tuple(service.name for service in offered))
            options.setdefault("max_configs", max(len(s.size_factor) for s in offered))
            options.setdefault("max_models", max(len(s.model_mb) for s in offered))
            options.setdefault("max_delays", max(len(s.delay_set_s) for s in offered))
        for name, field in (("accuracy", "accuracy"), ("data_size", "size_factor")):
            if described[name] is not None:
                offered = with_measured(name, described[name], offered, field)
        leaves = {}
        if described["agents_per_service"] is not None:
            leaves["service"] = assigned(described["agents_per_service"], len(offered))
            total = len(leaves["service"])
            if options.setdefault("num_agents", total) != total:
                valid = f"agents_per_service has {total}"
                raise ConfigError("num_agents", options["num_agents"], valid)
        network, positions = network_of(
            described["sites"], described["scenario_seed"], options.get("num_servers")
        )
        if network is not None:
            leaves |= network._asdict()
            options["num_servers"] = len(network.uplink_mbps)
        if described["users"] is not None:
            users = users_of(described["users"], described["sites"])
            leaves["local_weight"] = eua.users_per_site(users, positions)
        if described["uplinks"] is not None:
            rates = measured.read_rates("uplinks", described["uplinks"])[measured.RATE]
            servers = options.get("num_servers", cls.num_servers)
            if len(rates) != servers:
                valid = f"it has {len(rates)} rows; give one for each of {servers} servers"
                raise ConfigError("uplinks", str(described["uplinks"]), valid)
            leaves["uplink_mbps"] = 1e-6 * rates
        sizes, given = cls.sizes_and_leaves(options)
        env = cls(**sizes)
        if env.num_services != len(offered):
            valid = f"give the names of the {len(offered)} services"
            raise ConfigError("service_names", list(env.service_names), valid)
        leaves |= env.padded(offered)
        if described["preset"] is not None:
            check_choice("preset", described["preset"], PRESETS)
            leaves["acc_scale"] = PRESETS[described["preset"]]
        leaves |= given
        return env, env.make_params(path_metric=described["path_metric"] or "delay", **leaves)

    def make_params(self, path_metric: str = "delay", **leaves: Any) -> ServicesParams:
        """The default scenario with some leaves replaced, cast, broadcast and validated.

        Paths that are not given are computed by ``path_metric`` in steps of 1/1200 s/Mb, so links
        of 2400 Mbit/s and more, whose step is 0, are refused then.
        """
        check_choice("path_metric", path_metric, ("delay", "hops"))
        params = super().make_params(**leaves)
        given = [name for name in ("path_s_per_mb", "path_links") if name in leaves]
        if len(given) == 1:
            raise ConfigError(given[0], leaves[given[0]], "give path_s_per_mb and path_links, both")
        if not given:
            rates = params.link_mbps
            valid = "give less than 2400 Mbit/s, or also path_s_per_mb and path_links"
            check_array("link_mbps", rates, lambda x: x < 2400, valid)
            params = self.scenario_params(params, metric=path_metric)
            valid = "links are too slow for paths of less than 109 s/Mb"
            check_array("link_mbps", rates, lambda _: np.isfinite(params.path_s_per_mb), valid)
        return params

    def scenario_params(
        self,
        params: ServicesParams,
        link_mbps: chex.Array | None = None,
        compute_tflops: chex.Array | None = None,
        memory_gb: chex.Array | None = None,
        uplink_mbps: chex.Array | None = None,
        metric: str = "delay",
    ) -> ServicesParams:
        """``params`` with another network and its shortest paths; jit- and vmap-able.

        Args:
            params: the rest of the scenario.
            link_mbps: ``[K, K]``. compute_tflops, memory_gb, uplink_mbps: ``[K]``. None: as is.
            metric: of the shortest paths, ``delay`` or ``hops``.
        """
        network = Network(link_mbps, compute_tflops, memory_gb, uplink_mbps)._asdict()
        given = {name: x for name, x in network.items() if x is not None}
        params = params.replace(**{k: jnp.asarray(x, self.float_dtype) for k, x in given.items()})
        delay, links = graphs.shortest_paths(params.link_mbps, metric)
        return params.replace(path_s_per_mb=delay, path_links=links)

    def default_params(self) -> ServicesParams:
        """The constants of the paper and, where it is silent, of the model's specification.

        More services repeat the two published ones, cut to the sizes of the environment. Other than
        16 servers form a ring.
        """
        agents = np.arange(self.num_agents)
        values: dict[str, Any] = {
            "max_steps": np.int32(100),
            "service": (agents * self.num_services // self.num_agents).astype(np.int32),
            **self.padded([self._cut(service) for service in published(self.num_services)]),
            **default_network(self.num_servers)._asdict(),
            "local_weight": np.ones(self.num_servers),
            "system_range_tflop": np.array([0.1, 0.3]),
            "used_range_mb": np.array([100.0, 900.0]),
            "routing_cost": 0.002,
            "compute_cost": 3e-4,
            "memory_cost": 0.016,
            "penalty": -100.0,
            "acc_scale": 1.0,
            "bits_per_byte": 8.0,
            "mb_per_gb": 1024.0,
        }
        leaves = {name: self.as_leaf(value) for name, value in values.items()}
        paths = dict.fromkeys(("path_s_per_mb", "path_links"))
        return self.scenario_params(ServicesParams(**leaves, **paths))

    def _cut(self, service: Service) -> Service:
        """As much of a service as there is room for."""
        c, m, d = self.max_configs, self.max_models, self.max_delays
        return dataclasses.replace(
            service,
            accuracy=service.accuracy[:c, :m],
            size_factor=service.size_factor[:c],
            inferences=service.inferences[:c],
            model_mb=service.model_mb[:m],
            model_tflop=service.model_tflop[:m],
            delay_set_s=service.delay_set_s[:d],
        )

    def padded(self, services: Sequence[Service]) -> dict[str, np.ndarray]:
        """The leaves that describe services; what a service does not have is never admitted.

        Raises:
            ConfigError: a service has more configurations, models or delays than there is room for.
        """
        c, m, d = self.max_configs, self.max_models, self.max_delays
        for service in services:
            counts = (*service.accuracy.shape, len(service.delay_set_s))
            for name, count in zip(
                ("max_configs", "max_models", "max_delays"), counts, strict=True
            ):
                if count > getattr(self, name):
                    valid = f"service {service.name} needs {count}"
                    raise ConfigError(name, getattr(self, name), valid)

        def stack(values: Sequence[Any], shape: tuple[int, ...], fill: float) -> np.ndarray:
            table = np.full((len(values), *shape), fill)
            for row, value in zip(table, values, strict=True):
                row[tuple(slice(size) for size in np.shape(value))] = value
            return table

        return {
            "num_configs": np.array([len(s.size_factor) for s in services], np.int32),
            "num_models": np.array([len(s.model_mb) for s in services], np.int32),
            "num_delays": np.array([len(s.delay_set_s) for s in services], np.int32),
            "acc_std": stack([s.standard_accuracy for s in services], (c, m), 0.0),
            "size_factor": stack([s.size_factor for s in services], (c,), REFUSED),
            "inferences": stack([s.inferences for s in services], (c,), 1.0),
            "model_mb": stack([s.model_mb for s in services], (m,), REFUSED),
            "model_tflop": stack([s.model_tflop for s in services], (m,), 0.0),
            "data_range_mb": stack([s.data_range_mb for s in services], (2,), 0.0),
            "delay_set_s": stack([s.delay_set_s for s in services], (d,), 1.0),
        }

    def validate(self, params: ServicesParams) -> None:
        """Refuses what cannot be simulated; needs concrete values."""
        p = jax.tree.map(np.asarray, params)
        check_array("max_steps", p.max_steps, lambda x: x >= 1, "give at least 1 slot")
        last = self.num_services - 1
        valid = f"give numbers of services, 0 to {last}"
        check_array("service", p.service, lambda x: (x >= 0) & (x <= last), valid)
        for name, size in (
            ("num_configs", self.max_configs),
            ("num_models", self.max_models),
            ("num_delays", self.max_delays),
        ):
            valid = f"give numbers from 1 to {size}"
            check_array(name, getattr(p, name), lambda x, n=size: (x >= 1) & (x <= n), valid)
        check_leaves(p, _POSITIVE, POSITIVE)
        check_leaves(p, _NOT_NEGATIVE, NOT_NEGATIVE)
        valid = "give finite weights, 0 or more, not all 0"
        some = p.local_weight.sum() > 0
        check_array("local_weight", p.local_weight, lambda x: (x >= 0) & some, valid)
        for name in ("data_range_mb", "system_range_tflop", "used_range_mb"):
            valid = "give the lowest value first"
            check_array(name, getattr(p, name), lambda x: x[..., :1] <= x[..., 1:], valid)
        check_array("penalty", p.penalty, lambda x: x < 0, "give a negative number")
        valid = "give a symmetric matrix with zeros on the diagonal"
        symmetric = (p.link_mbps == p.link_mbps.T) & (np.diag(p.link_mbps) == 0)
        check_array("link_mbps", p.link_mbps, lambda _: symmetric, valid)
        room = REFUSED * min(1.0, p.data_range_mb.min())
        valid = f"servers have less than {room:g} MB, so that what is masked is never admitted"
        check_array("memory_gb", p.memory_gb, lambda x: p.mb_per_gb * x < room, valid)
        if not graphs.is_connected(p.link_mbps > 0):
            valid = "not all servers can be reached: add links"
            raise ConfigError("link_mbps", p.link_mbps.tolist(), valid)


_DESCRIPTIONS = (
    "preset",
    "services",
    "agents_per_service",
    "accuracy",
    "data_size",
    "sites",
    "users",
    "scenario_seed",
    "uplinks",
    "path_metric",
)
_POSITIVE = (
    "size_factor",
    "inferences",
    "data_range_mb",
    "delay_set_s",
    "compute_tflops",
    "memory_gb",
    "uplink_mbps",
    "acc_scale",
    "bits_per_byte",
    "mb_per_gb",
)
_NOT_NEGATIVE = (
    "acc_std",
    "model_mb",
    "model_tflop",
    "link_mbps",
    "path_s_per_mb",
    "path_links",
    "system_range_tflop",
    "used_range_mb",
    "routing_cost",
    "compute_cost",
    "memory_cost",
)
