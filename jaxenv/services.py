"""Joint configuration, model selection and deployment for heterogeneous inference services.

Sixteen edge servers offer services such as object detection and object tracking. In every slot each
agent holds one request of its service and chooses a configuration, a DNN model and the server that
runs it. Requests are admitted one after another; one that would be late or does not fit into memory
is rejected. All agents share one reward: accuracy minus delay minus cost. Nothing is carried from
one slot to the next. The file reads: services, network, scenario, state, one slot, the contract.

Source: "Joint DNN Model Deployment, Selection, and Configuration for Heterogeneous Inference
Services Toward Edge Intelligence", IEEE Transactions on Mobile Computing, 2025; equation numbers
are the paper's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxenv import spaces, struct
from jaxenv.data import accuracy as accuracy_tables
from jaxenv.data import eua, measured
from jaxenv.environment import Environment, Metric, Params, State
from jaxenv.errors import ConfigError
from jaxenv.physics import arrivals, graphs
from jaxenv.validation import check_array, check_fields

REACH_M = 500.0
LINK_MBPS, UPLINK_MBPS = (50.0, 100.0, 200.0, 300.0, 400.0), (36.0, 48.0, 64.0, 72.0)
COMPUTE_TFLOPS, MEMORY_GB = (0.5, 1.26, 1.33), (1.0, 2.0, 4.0)
PRESETS = {"literal": 1.0, "percent": 100.0}  # scale of accuracies beside a penalty of -100
REFUSED = 1e9  # size factor of padded configurations, and MB of padded models: never admitted


# ---- services ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Service:
    """What one inference service offers; C configurations, M models.

    accuracy: ``[C, M]``, in the metric of the service. size_factor: ``[C]``, of a request's data.
    inferences: ``[C]`` per request. model_mb, model_tflop: ``[M]`` memory, work of one inference.
    data_range_mb: of a request before its configuration. delay_set_s: the delays it may tolerate.
    """

    name: str
    accuracy: np.ndarray
    size_factor: np.ndarray
    inferences: np.ndarray
    model_mb: np.ndarray
    model_tflop: np.ndarray
    data_range_mb: Sequence[float]
    delay_set_s: Sequence[float]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self)[1:]:
            value = getattr(self, field.name)
            try:
                array = np.asarray(value, np.float64)
            except (TypeError, ValueError):
                array = np.full((), np.nan)
            rank = 2 if field.name == "accuracy" else 1
            if array.ndim != rank or not array.size or not np.isfinite(array).all():
                dimensions = "a table [C, M]" if rank == 2 else "a list"
                valid = f"give {dimensions} of finite numbers"
                raise ConfigError(f"services.{self.name}.{field.name}", value, valid)
            object.__setattr__(self, field.name, array)
        configs, models = self.accuracy.shape
        sizes = {"size_factor": configs, "inferences": configs, "data_range_mb": 2}
        sizes |= {"model_mb": models, "model_tflop": models}
        for name, size in sizes.items():
            value = getattr(self, name)
            if value.shape != (size,):
                raise ConfigError(
                    f"services.{self.name}.{name}", value.tolist(), f"give {size} numbers"
                )

    @property
    def standard_accuracy(self) -> np.ndarray:
        """Accuracies from 0, the least, to 1, the highest of the service; eq (19).

        1 where all are equal: none is better than what is chosen.
        """
        low, high = self.accuracy.min(), self.accuracy.max()
        if low == high:
            return np.ones_like(self.accuracy)
        return (self.accuracy - low) / (high - low)


SCALES = np.array([1.0, 0.75, 0.5, 0.25])
QUALITIES = np.array([100.0, 90.0, 80.0, 70.0])
FRAME_RATES = np.array([30.0, 15.0, 10.0, 5.0])


def _combine(scale: Any, second: Any) -> np.ndarray:
    """A value of every configuration ``[16]``, image scale times the other setting."""
    return np.outer(scale, second).reshape(-1)


def detection() -> Service:
    """Object detection: image scale, JPEG quality; R-50-FPN fp16, R-50-C4, X-101-FPN, R-101-FPN.

    Table II of the paper. The paper prints accuracy only as a range and data size only as a plot;
    box APs are of the mmdetection model zoo, scaled so that the range is met.
    """
    ap = np.array([0.375, 0.356, 0.420, 0.394])
    by_scale, by_quality = np.array([1.0, 0.93, 0.78, 0.46]), np.array([1.0, 0.97, 0.92, 0.85])
    steepest = (1 - 0.097 / (ap.min() * by_quality.min())) / (1 - by_scale.min())
    steepness = 1 + (steepest - 1) * (100 - QUALITIES) / 30
    factor = by_quality * (1 - np.outer(1 - by_scale, steepness))
    return Service(
        name="detection",
        accuracy=factor.reshape(-1, 1) * ap,
        size_factor=_combine(SCALES**1.7, [1.0, 0.45, 0.32, 0.26]),
        inferences=np.ones(16),
        model_mb=[159.48, 129.31, 380.91, 232.13],
        model_tflop=[0.1747, 0.8193, 0.3688, 0.2380],
        data_range_mb=(1.0, 10.0),
        delay_set_s=(0.5, 1.0, 1.5, 2.0),
    )


def tracking() -> Service:
    """Tracking of a clip of 1 s: image scale, frame rate; ByteTrack, SORT, QDTrack.

    Table III of the paper; MOTA of mmtracking on MOT17, scaled to the paper's range.
    """
    mota = 0.85 * np.array([78.6, 62.0, 68.2]) / 78.6
    by_scale = np.array([1.0, 0.995, 0.985, 0.93])
    slowest = 0.6 / (mota.min() * by_scale.min())
    by_rate = 1 - (1 - slowest) * np.log(30 / FRAME_RATES) / math.log(6)
    return Service(
        name="tracking",
        accuracy=_combine(by_scale, by_rate)[:, None] * mota,
        size_factor=_combine(SCALES**1.7, (FRAME_RATES / 30) ** 0.8),
        inferences=np.tile(FRAME_RATES, 4),
        model_mb=[378.02, 157.93, 216.95],
        model_tflop=[0.3959, 0.1448, 0.1416],
        data_range_mb=(5.0, 20.0),
        delay_set_s=(1.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    )


# ---- network -----------------------------------------------------------------------------------

SITES_M = (
    ((12, 31), (455, -22), (841, 40), (1310, 18), (-35, 402), (402, 351), (905, 418), (1262, 369))
    + ((41, 741), (446, 802), (822, 745), (1325, 790))
    + ((-18, 1130), (471, 1118), (880, 1171), (1268, 1109))
)


class Network(NamedTuple):
    """Edge servers and the links between them; NumPy; K servers.

    link_mbps: ``[K, K]``, 0 = no link. compute_tflops (TFLOP/s), memory_gb, uplink_mbps: ``[K]``.
    """

    link_mbps: np.ndarray
    compute_tflops: np.ndarray
    memory_gb: np.ndarray
    uplink_mbps: np.ndarray


def default_network(size: int = 16) -> Network:
    """The embedded layout of 16 sites; of another size, its servers over again in a ring."""
    if size == len(SITES_M):
        near = graphs.linked(np.array(SITES_M, np.float64), REACH_M)
        i, j = np.triu_indices(size, 1)
        links = _symmetric(near, np.array(LINK_MBPS)[(7 * i + 3 * j + i * j) % 5])
    else:
        links = _ring(size)
    memory_gb = [2.0, 1, 4, 1, 4, 2, 1, 2, 1, 4, 2, 4, 4, 1, 2, 1]
    uplink_mbps = [48.0, 72, 36, 64, 64, 36, 72, 48, 36, 64, 48, 72, 72, 48, 64, 36]
    return Network(
        link_mbps=links,
        compute_tflops=np.resize(np.resize([1.33, 0.5, 1.26], 16), size),
        memory_gb=np.resize(memory_gb, size),
        uplink_mbps=np.resize(uplink_mbps, size),
    )


def _ring(size: int) -> np.ndarray:
    """Link rates of servers in a ring."""
    rates = np.zeros((size, size))
    for i in range(size if size > 2 else size - 1):
        j = (i + 1) % size
        rates[i, j] = rates[j, i] = LINK_MBPS[i % len(LINK_MBPS)]
    return rates


def draw_network(linked: np.ndarray, seed: int) -> Network:
    """A network of given links ``[K, K]``, its rates and servers drawn uniformly by ``seed``."""
    rng, size = np.random.default_rng(seed), len(linked)
    i, j = np.triu_indices(size, 1)
    rates = np.zeros(len(i))
    rates[linked[i, j]] = rng.choice(LINK_MBPS, int(linked[i, j].sum()))
    compute, memory, uplink = (
        rng.choice(values, size) for values in (COMPUTE_TFLOPS, MEMORY_GB, UPLINK_MBPS)
    )
    return Network(_symmetric(linked, rates), compute, memory, uplink)


def _symmetric(linked: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """``[K, K]`` link rates from those of the upper triangle, row-major."""
    rates = np.zeros(linked.shape)
    rates[np.triu_indices(len(linked), 1)] = upper
    return np.where(linked, rates + rates.T, 0.0)


# ---- scenario and state ------------------------------------------------------------------------


@struct.dataclass
class ServicesParams(Params):
    """The scenario. n agents, S services, C configurations, M models, L delays, K servers.

    Rows of a service that has fewer than C, M or L are padded; ``num_configs``, ``num_models`` and
    ``num_delays`` say how many it has. Mb is megabit, MB megabyte.

    max_steps: slots of an episode.
    """

    service: chex.Array  # [n] int32, of each agent
    num_configs: chex.Array  # [S] int32
    num_models: chex.Array  # [S] int32
    num_delays: chex.Array  # [S] int32
    acc_std: chex.Array  # [S, C, M] standardised accuracy (19)
    size_factor: chex.Array  # [S, C] eta
    inferences: chex.Array  # [S, C] I, per request
    model_mb: chex.Array  # [S, M]
    model_tflop: chex.Array  # [S, M], of one inference
    data_range_mb: chex.Array  # [S, 2]
    delay_set_s: chex.Array  # [S, L]
    link_mbps: chex.Array  # [K, K] w, 0 = no link
    path_s_per_mb: chex.Array  # [K, K] R, s per Mb along the shortest path
    path_links: chex.Array  # [K, K] int32, links of that path
    compute_tflops: chex.Array  # [K] A, TFLOP/s
    memory_gb: chex.Array  # [K] B
    uplink_mbps: chex.Array  # [K] rho
    local_weight: chex.Array  # [K] relative frequency with which a request arrives at the server
    system_range_tflop: chex.Array  # [2] work already on a server
    used_range_mb: chex.Array  # [2] memory already in use
    routing_cost: chex.Array  # psi_rou, $ per Mb and link
    compute_cost: chex.Array  # psi_comp, $/s
    memory_cost: chex.Array  # psi_mem, $/GB
    penalty: chex.Array  # in place of the accuracy of a rejected request
    acc_scale: chex.Array
    bits_per_byte: chex.Array
    mb_per_gb: chex.Array


@struct.dataclass
class Slot:
    """What a slot brings.

    local_server: int32 ``[n]`` v, where each request arrives. deadline_s, data_mb: ``[n]``.
    system_tflop, used_mb: ``[K]`` work and memory already on the servers.
    """

    local_server: chex.Array
    deadline_s: chex.Array
    data_mb: chex.Array
    system_tflop: chex.Array
    used_mb: chex.Array


@struct.dataclass
class ServicesState(State):
    """slot: the one that is to be decided."""

    slot: Slot


class Demand(NamedTuple):
    """What actions ask for, of any shape: nothing in it depends on other requests.

    server, instance: int32, the latter numbers (service, model, server). alone_s: delay on an
    otherwise empty server. data_mb, model_mb: what it puts into memory. room_mb: what is free
    there. work_tflop, tflops: of the request and its server. accuracy: standardised, if accepted.
    cost_rou, cost_cmp: $.
    """

    server: chex.Array
    instance: chex.Array
    alone_s: chex.Array
    deadline_s: chex.Array
    data_mb: chex.Array
    model_mb: chex.Array
    room_mb: chex.Array
    work_tflop: chex.Array
    tflops: chex.Array
    accuracy: chex.Array
    cost_rou: chex.Array
    cost_cmp: chex.Array


class Outcome(NamedTuple):
    """Admission of all requests, ``[n]`` each.

    delay_s: of a rejected request, what it would have been. started_mb: memory of the model
    instance that a request starts.
    """

    accepted: chex.Array
    late: chex.Array
    delay_s: chex.Array
    started_mb: chex.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Services(Environment[ServicesState, ServicesParams]):
    """Agents that serve one request each per slot, by one joint decision.

    num_agents: n; agent ``i`` serves service ``params.service[i]``, by default equally many each,
    in the order of the services. service_names: S of them. num_servers: K. max_configs, max_models,
    max_delays: C, M, L after padding. agent_metrics: adds the metrics of every single agent.

    Observations are ``[n, D]``, actions int32 ``[n, 3]``: configuration, model, server; masks
    ``[n, 3, max(C, M, K)]``.
    """

    num_agents: int = 8
    service_names: tuple[str, ...] = ("detection", "tracking")
    num_servers: int = 16
    max_configs: int = 16
    max_models: int = 4
    max_delays: int = 6
    agent_metrics: bool = False

    name: ClassVar[str] = "services"
    reward_parts: ClassVar[tuple[str, ...]] = ("accuracy", "delay", "cost")
    paid_by_agent: ClassVar[bool] = True
    shared_choice: ClassVar[int | None] = 2  # the server
    choice_groups: ClassVar[int] = 2  # its work and memory in use

    # ---- sizes and scenario -------------------------------------------------------------------

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("num_agents", "num_servers", "max_configs", "max_models", "max_delays")
        check_fields(self, {}, dict.fromkeys(sizes, 1))
        object.__setattr__(self, "service_names", _names(self.service_names))
        if not isinstance(self.agent_metrics, bool):
            raise ConfigError("agent_metrics", self.agent_metrics, "give true or false")

    @property
    def num_services(self) -> int:
        """S."""
        return len(self.service_names)

    @classmethod
    def build(cls, **options: Any) -> tuple[Services, ServicesParams]:
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
        ``rate [bit/s]``, one row per server in their order.
        path_metric: shortest paths by ``delay`` or ``hops``.
        """
        options = {name: value for name, value in options.items() if value is not None}
        described = {name: options.pop(name, None) for name in _DESCRIPTIONS}
        if described["services"] is None:
            offered = _published(len(_names(options.get("service_names", cls.service_names))))
        else:
            offered = _services(described["services"])
            options.setdefault("service_names", tuple(service.name for service in offered))
            options.setdefault("max_configs", max(len(s.size_factor) for s in offered))
            options.setdefault("max_models", max(len(s.model_mb) for s in offered))
            options.setdefault("max_delays", max(len(s.delay_set_s) for s in offered))
        for name, field in (("accuracy", "accuracy"), ("data_size", "size_factor")):
            if described[name] is not None:
                offered = _measured(name, described[name], offered, field)
        leaves = {}
        if described["agents_per_service"] is not None:
            leaves["service"] = _assigned(described["agents_per_service"], len(offered))
            total = len(leaves["service"])
            if options.setdefault("num_agents", total) != total:
                valid = f"agents_per_service has {total}"
                raise ConfigError("num_agents", options["num_agents"], valid)
        network, positions = _network(
            described["sites"], described["scenario_seed"], options.get("num_servers")
        )
        if network is not None:
            leaves |= network._asdict()
            options["num_servers"] = len(network.uplink_mbps)
        if described["users"] is not None:
            users = _users(described["users"], described["sites"])
            leaves["local_weight"] = eua.users_per_site(users, positions)
        if described["uplinks"] is not None:
            rates = measured.read_rates("uplinks", described["uplinks"])[measured.RATE]
            servers = options.get("num_servers", cls.num_servers)
            if len(rates) != servers:
                valid = f"it has {len(rates)} rows; give one for each of {servers} servers"
                raise ConfigError("uplinks", str(described["uplinks"]), valid)
            leaves["uplink_mbps"] = 1e-6 * rates
        sizes = {f.name for f in dataclasses.fields(cls) if f.init}
        env = cls(**{name: value for name, value in options.items() if name in sizes})
        if env.num_services != len(offered):
            valid = f"give the names of the {len(offered)} services"
            raise ConfigError("service_names", list(env.service_names), valid)
        leaves |= env.padded(offered)
        if described["preset"] is not None:
            _check_choice("preset", described["preset"], PRESETS)
            leaves["acc_scale"] = PRESETS[described["preset"]]
        leaves |= {name: value for name, value in options.items() if name not in sizes}
        return env, env.make_params(path_metric=described["path_metric"] or "delay", **leaves)

    def make_params(self, path_metric: str = "delay", **leaves: Any) -> ServicesParams:
        """The default scenario with some leaves replaced, cast, broadcast and validated.

        Paths that are not given are computed by ``path_metric`` in steps of 1/1200 s/Mb, so links
        of 2400 Mbit/s and more, whose step is 0, are refused then.
        """
        _check_choice("path_metric", path_metric, ("delay", "hops"))
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
            **self.padded([self._cut(service) for service in _published(self.num_services)]),
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
        for name in _POSITIVE:
            check_array(name, getattr(p, name), lambda x: x > 0, "give positive finite numbers")
        for name in _NOT_NEGATIVE:
            check_array(name, getattr(p, name), lambda x: x >= 0, "give finite numbers, 0 or more")
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

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Reward and its parts, summed over an episode; shares of requests that are rejected.

        ``doubling``: agents on a server that one before them chose. Then, per service and, with
        ``agent_metrics``, per agent: rejections, and means of the accepted requests.
        """
        agents = [f"agent{i}" for i in range(self.num_agents)] if self.agent_metrics else []
        return (
            Metric("reward", "1", "max", "sum", "reward"),
            Metric("accuracy", "1", "max", "sum", "total_accuracy"),
            Metric("delay_s", "s", "min", "sum", "total_delay_s"),
            Metric("cost_usd", "$", "min", "sum", "total_cost_usd"),
            *(
                Metric(name, "%", "min", "mean", name, scale=100.0)
                for name in ("failure_rate", "late_rate", "memory_rate", "doubling")
            ),
            *(
                metric
                for group in (*self.service_names, *agents)
                for metric in (
                    Metric(
                        f"failure_rate_{group}",
                        "%",
                        "min",
                        "ratio",
                        f"rejected_{group}",
                        f"requests_{group}",
                        scale=100.0,
                    ),
                    *(
                        Metric(
                            f"{quantity}_{group}",
                            unit,
                            direction,
                            "ratio",
                            f"{quantity}_{group}",
                            f"accepted_{group}",
                        )
                        for quantity, unit, direction in (
                            ("accuracy", "1", "max"),
                            ("delay_s", "s", "min"),
                            ("cost_usd", "$", "min"),
                        )
                    ),
                )
            ),
        )

    @property
    def observation_space(self) -> spaces.Box:
        return spaces.Box(-np.inf, np.inf, (sum(self.observation_groups),), self.float_dtype)

    @property
    def action_space(self) -> spaces.MultiDiscrete:
        return spaces.MultiDiscrete((self.max_configs, self.max_models, self.num_servers))

    @property
    def observation_groups(self) -> tuple[int, ...]:
        """Entries of an observation that belong together: request; work, memory and links."""
        return (self.num_servers + 2, *self.state_groups)

    @property
    def state_row(self) -> int:
        """Entries of one agent in the global state."""
        return self.num_servers + 2 + self.num_services

    @property
    def state_groups(self) -> tuple[int, ...]:
        """Entries of the global state that belong to the servers: work, memory and links."""
        k = self.num_servers
        return (k, k, k * (k - 1) // 2)

    # ---- one slot -----------------------------------------------------------------------------

    def demand(
        self,
        slot: Slot,
        agent: chex.Array,
        config: chex.Array,
        model: chex.Array,
        server: chex.Array,
        params: ServicesParams,
    ) -> Demand:
        """What requests ask for; agent, config, model and server are int32 of one shape, or
        broadcast to it; eqs (2) to (4), (8), (10).
        """
        p, service, local = params, params.service[agent], slot.local_server[agent]
        data_mb = p.size_factor[service, config] * slot.data_mb[agent]
        data_mbit = p.bits_per_byte * data_mb
        work = p.model_tflop[service, model] * p.inferences[service, config]
        tflops = p.compute_tflops[server]
        path_s = p.path_s_per_mb[local, server]
        transfer_s = data_mbit / p.uplink_mbps[local] + data_mbit * path_s
        cost = p.compute_cost * work / tflops + p.memory_cost * data_mb / p.mb_per_gb
        return Demand(
            server=server,
            instance=(service * self.max_models + model) * self.num_servers + server,
            alone_s=transfer_s + (work + slot.system_tflop[server]) / tflops,
            deadline_s=slot.deadline_s[agent],
            data_mb=data_mb,
            model_mb=p.model_mb[service, model],
            room_mb=p.mb_per_gb * p.memory_gb[server] - slot.used_mb[server],
            work_tflop=work,
            tflops=tflops,
            accuracy=p.acc_std[service, config, model],
            cost_rou=p.routing_cost * data_mbit * p.path_links[local, server],
            cost_cmp=cost,
        )

    def admit(self, demand: Demand) -> Outcome:
        """Admits requests ``[n]`` one after another; eqs (5), (6), (14), (15).

        A rejected one leaves nothing behind. Two with the same model on the same server share it.
        """
        index = jnp.arange(demand.server.shape[0])
        before = index < index[:, None]
        beside = before & (demand.server == demand.server[:, None])
        alike = before & (demand.instance == demand.instance[:, None])
        nothing = jnp.zeros_like(demand.work_tflop)
        start = (jnp.zeros(index.shape, bool), nothing, nothing)
        rows = (index == index[:, None], beside, alike, demand)
        return jax.lax.scan(_admit_next, start, rows, unroll=True)[1]

    def parts(self, demand: Demand, outcome: Outcome, params: ServicesParams) -> chex.Array:
        """Accuracy, minus delay, minus cost of all requests ``[3]``; eqs (7), (11), (20), (21)."""
        return jnp.sum(self.agent_parts(demand, outcome, params), axis=0)

    def agent_parts(self, demand: Demand, outcome: Outcome, params: ServicesParams) -> chex.Array:
        """What each request adds to `parts`, ``[n, 3]``; a model is paid by the first to use it."""
        p, ok = params, outcome.accepted
        accuracy = jnp.where(ok, p.acc_scale * demand.accuracy, p.penalty)
        model_cost = p.memory_cost * outcome.started_mb / p.mb_per_gb
        cost = jnp.where(ok, demand.cost_rou + demand.cost_cmp + model_cost, 0)
        delay_s = jnp.where(ok, outcome.delay_s, 0)
        return jnp.stack([accuracy, -delay_s, -cost], axis=1)

    def _draw(self, key: chex.PRNGKey, time: chex.Array, params: ServicesParams) -> Slot:
        """The slot at a time of the episode of ``key``."""
        p, n, k = params, self.num_agents, self.num_servers
        # The servers first, so that a sweep over the number of agents shares their numbers.
        count = 2 * k + 3 * n
        drawn = arrivals.slot_uniforms(jax.random.key_data(key), time, count, self.float_dtype)
        system, used = drawn[: 2 * k].reshape(2, k)
        where, deadline, data = drawn[2 * k :].reshape(n, 3).T
        choices = p.num_delays[p.service]

        def between(low_high: chex.Array, share: chex.Array) -> chex.Array:
            return low_high[..., 0] + (low_high[..., 1] - low_high[..., 0]) * share

        return Slot(
            local_server=_weighted(where, p.local_weight),
            deadline_s=p.delay_set_s[p.service, _nth(deadline, choices)],
            data_mb=between(p.data_range_mb[p.service], data),
            system_tflop=between(p.system_range_tflop, system),
            used_mb=between(p.used_range_mb, used),
        )

    # ---- the contract -------------------------------------------------------------------------

    def reset_env(self, key: chex.PRNGKey, params: ServicesParams) -> ServicesState:
        time = jnp.int32(0)
        return ServicesState(key=key, time=time, slot=self._draw(key, time, params))

    def step_env(
        self, key: chex.PRNGKey, state: ServicesState, action: chex.Array, params: ServicesParams
    ) -> tuple[ServicesState, chex.Array, chex.Array, dict[str, Any]]:
        """Admits the slot's requests and draws the next slot.

        Returns:
            The state, the shared reward (21), False, and ``info``: ``reward_parts`` ``[3]``, whose
            sum is the reward, and ``agent_parts`` ``[n, 3]``, whose sums they are; ``accepted``,
            ``late``, ``memory_reject``, ``delay_s`` (of a rejected request, what it would have
            been), ``accuracy``, ``cost_rou``, ``cost_cmp``, all ``[n]``; ``cost_mem``, and what the
            metrics are made of.
        """
        p, slot = params, state.slot
        asked = self.demand(slot, jnp.arange(self.num_agents), *action.T, p)
        outcome = self.admit(asked)
        agent_parts = self.agent_parts(asked, outcome, p)
        parts = jnp.sum(agent_parts, axis=0)
        ok = outcome.accepted
        memory_reject = ~ok & ~outcome.late
        share = lambda x: jnp.mean(x, dtype=self.float_dtype)  # noqa: E731
        distinct = jnp.any(action[:, 2] == jnp.arange(self.num_servers)[:, None], axis=1)
        info = {
            "reward_parts": parts,
            "agent_parts": agent_parts,
            "accepted": ok,
            "late": outcome.late,
            "memory_reject": memory_reject,
            "delay_s": outcome.delay_s,
            "accuracy": asked.accuracy,
            "cost_rou": asked.cost_rou,
            "cost_cmp": asked.cost_cmp,
            "cost_mem": p.memory_cost * jnp.sum(outcome.started_mb) / p.mb_per_gb,
            "total_accuracy": parts[0],
            "total_delay_s": -parts[1],
            "total_cost_usd": -parts[2],
            "failure_rate": share(~ok),
            "late_rate": share(outcome.late),
            "memory_rate": share(memory_reject),
            "doubling": 1 - jnp.sum(distinct, dtype=self.float_dtype) / self.num_agents,
        }
        info |= self._grouped(asked, outcome, p)
        time = state.time + 1
        following = state.replace(slot=self._draw(state.key, time, p))
        return following, jnp.sum(parts), jnp.asarray(False), info

    def _grouped(
        self, demand: Demand, outcome: Outcome, params: ServicesParams
    ) -> dict[str, chex.Array]:
        """Counts and sums over the requests of each service and, if asked for, of each agent."""
        member = [params.service == s for s in range(self.num_services)]
        names = list(self.service_names)
        if self.agent_metrics:
            member += [jnp.arange(self.num_agents) == i for i in range(self.num_agents)]
            names += [f"agent{i}" for i in range(self.num_agents)]
        ok = outcome.accepted
        sums = {}
        for name, inside in zip(names, member, strict=True):
            total = lambda x, of=inside: jnp.sum(jnp.where(of, x, 0), dtype=self.float_dtype)  # noqa: E731
            sums |= {
                f"requests_{name}": total(1),
                f"rejected_{name}": total(~ok),
                f"accepted_{name}": total(ok),
                f"accuracy_{name}": total(jnp.where(ok, demand.accuracy, 0)),
                f"delay_s_{name}": total(jnp.where(ok, outcome.delay_s, 0)),
                f"cost_usd_{name}": total(jnp.where(ok, demand.cost_rou + demand.cost_cmp, 0)),
            }
        return sums

    def action_mask(self, state: ServicesState, params: ServicesParams) -> chex.Array:
        """``[n, 3, max(C, M, K)]``: configurations and models that an agent's service has."""
        p, n = params, self.num_agents
        servers = jnp.full((n,), self.num_servers, jnp.int32)
        counts = jnp.stack([p.num_configs[p.service], p.num_models[p.service], servers], axis=1)
        width = max(self.action_space.num_values)
        return jnp.arange(width) < counts[..., None]

    def observe(self, state: ServicesState, params: ServicesParams) -> chex.Array:
        """``[n, K + 2 + 2 K + K (K - 1) / 2]``: one-hot of the local server, deadline/25, data/20;
        of all servers work/0.3, memory in use/900, and link rates/400, i < j row by row.
        """
        shared = self._shared(state.slot, params)
        shared = jnp.broadcast_to(shared, (self.num_agents, *shared.shape))
        return jnp.concatenate([self._requests(state.slot), shared], axis=1)

    def global_state(self, state: ServicesState, params: ServicesParams) -> chex.Array:
        """``[n (K + 2 + S) + 2 K + K (K - 1) / 2]``: per agent its request and the one-hot of its
        service; then what all agents see of the servers.
        """
        service = jax.nn.one_hot(params.service, self.num_services, dtype=self.float_dtype)
        rows = jnp.concatenate([self._requests(state.slot), service], axis=1)
        return jnp.concatenate([rows.reshape(-1), self._shared(state.slot, params)])

    def _requests(self, slot: Slot) -> chex.Array:
        local = jax.nn.one_hot(slot.local_server, self.num_servers, dtype=self.float_dtype)
        asked = jnp.stack([slot.deadline_s / 25, slot.data_mb / 20], axis=1)
        return jnp.concatenate([local, asked], axis=1)

    def _shared(self, slot: Slot, params: ServicesParams) -> chex.Array:
        links = params.link_mbps[np.triu_indices(self.num_servers, 1)]
        return jnp.concatenate([slot.system_tflop / 0.3, slot.used_mb / 900, links / 400])

    def draw_episode(self, figure: Any, steps: Any, now: int, params: ServicesParams) -> None:
        """Draws an episode up to step ``now``; see `jaxenv.rendering.services`."""
        from jaxenv.rendering.services import draw_episode

        draw_episode(figure, self, steps, now, params)


Accepted = tuple[chex.Array, chex.Array, chex.Array]


def _admit_next(
    earlier: Accepted, row: tuple[chex.Array, chex.Array, chex.Array, Demand]
) -> tuple[Accepted, Outcome]:
    """Admits one request.

    Args:
        earlier: whether requests were accepted, with which work and into how much memory, ``[n]``.
        row: which request it is, which earlier ones are on its server, and which of these run its
            model, all bool ``[n]``; what it asks for.
    """
    accepted, work_tflop, memory_mb = earlier
    here, beside, alike, own = row
    queue_tflop = jnp.sum(jnp.where(beside, work_tflop, 0))
    used_mb = jnp.sum(jnp.where(beside, memory_mb, 0))
    model_mb = jnp.where(jnp.any(alike & accepted), 0, own.model_mb)
    delay_s = own.alone_s + queue_tflop / own.tflops
    late = delay_s > own.deadline_s
    need_mb = own.data_mb + model_mb
    ok = ~late & (used_mb + need_mb <= own.room_mb)
    earlier = (
        accepted | (here & ok),
        jnp.where(here & ok, own.work_tflop, work_tflop),
        jnp.where(here & ok, need_mb, memory_mb),
    )
    return earlier, Outcome(ok, late, delay_s, jnp.where(ok, model_mb, 0))


def _nth(share: chex.Array, count: chex.Array) -> chex.Array:
    """A number in [0, 1) as an index below ``count``, int32."""
    return jnp.minimum((share * count).astype(jnp.int32), count - 1)


def _weighted(share: chex.Array, weight: chex.Array) -> chex.Array:
    """Numbers in [0, 1), ``[n]``, as indices of ``weight``, int32, as often as it says."""
    ends = jnp.cumsum(weight)
    return jnp.sum(share[:, None] * ends[-1] >= ends[:-1], axis=1, dtype=jnp.int32)


# ---- descriptions of a scenario -----------------------------------------------------------------


def _names(given: Any) -> tuple[str, ...]:
    """Names of services."""
    known = isinstance(given, (list, tuple)) and all(isinstance(name, str) for name in given)
    if not known or not given or len(set(given)) < len(given):
        raise ConfigError("service_names", given, "give different names")
    return tuple(given)


def _published(count: int) -> list[Service]:
    return [(detection, tracking)[i % 2]() for i in range(count)]


def _services(given: Any) -> list[Service]:
    """Services of a list of `Service` or of mappings of its fields."""
    valid = "give a list of services, each with " + ", ".join(
        field.name for field in dataclasses.fields(Service)
    )
    if not isinstance(given, (list, tuple)) or not given:
        raise ConfigError("services", given, valid)
    offered = []
    for item in given:
        if isinstance(item, Mapping):
            try:
                item = Service(**item)
            except TypeError:
                raise ConfigError("services", sorted(map(str, item)), valid) from None
        if not isinstance(item, Service):
            raise ConfigError("services", item, valid)
        offered.append(item)
    return offered


def _measured(option: str, path: Any, services: list[Service], field: str) -> list[Service]:
    """The services with a table of a CSV in place of their own, where it names them."""
    if not isinstance(path, (str, PathLike)):
        raise ConfigError(option, path, "give the path of a CSV file")
    try:
        tables = accuracy_tables.read_accuracy(path)
    except ConfigError as error:
        raise ConfigError(option, str(path), str(error)) from None
    names = [service.name for service in services]
    for name in tables:
        if name not in names:
            raise ConfigError(option, name, f"choose a service of {', '.join(names)}")
    replaced = []
    for service in services:
        if service.name in tables:
            values, (configs, models) = tables[service.name].values, service.accuracy.shape
            wanted = (configs, models if field == "accuracy" else 1)
            if values.shape != wanted:
                valid = f"service {service.name} needs configurations x models {wanted}"
                raise ConfigError(option, values.shape, valid)
            values = values if field == "accuracy" else values[:, 0]
            service = dataclasses.replace(service, **{field: values})
        replaced.append(service)
    return replaced


def _assigned(given: Any, num_services: int) -> np.ndarray:
    """The service of each agent, from how many agents each service has."""
    valid = f"give {num_services} numbers of agents, at least one above 0"
    counts = list(given) if isinstance(given, (list, tuple)) else []
    whole = all(isinstance(x, int) and not isinstance(x, bool) and x >= 0 for x in counts)
    if len(counts) != num_services or not whole or not sum(counts):
        raise ConfigError("agents_per_service", given, valid)
    return np.repeat(np.arange(num_services, dtype=np.int32), counts)


def _users(users: Any, sites: Any) -> np.ndarray:
    """Positions of users ``[users, 2]`` in m, in the coordinates of the sites."""
    by_file = isinstance(users, (str, PathLike))
    if sites is None or isinstance(sites, (str, PathLike)) != by_file:
        valid = "give a CSV of users with a CSV of sites, or positions with positions"
        raise ConfigError("users", users, valid)
    if not by_file:
        return _positions("users", users)
    try:
        return eua.read_users(users, sites)
    except ConfigError as error:
        raise ConfigError("users", str(users), str(error)) from None


def _positions(name: str, given: Any) -> np.ndarray:
    """Positions ``[n, 2]`` in m."""
    try:
        positions = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        positions = np.zeros(0)
    if positions.ndim != 2 or positions.shape[1] != 2 or not np.isfinite(positions).all():
        raise ConfigError(name, given, "give positions [K, 2] in m, or the path of a CSV")
    return positions


def _network(sites: Any, seed: Any, num_servers: Any) -> tuple[Network | None, np.ndarray | None]:
    """The network that is described, None for the environment's default, and its ``[K, 2]`` m."""
    if sites is None and seed is None:
        return None, None
    for name, value, least in (("scenario_seed", seed, 0), ("num_servers", num_servers, 1)):
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if value is not None and not whole:
            raise ConfigError(name, value, f"give an integer of at least {least}")
    size, seed = num_servers or Services.num_servers, seed or 0
    if sites is None:
        return draw_network(default_network(size).link_mbps > 0, seed), None
    if isinstance(sites, (str, PathLike)):
        try:
            positions, _ = eua.draw_sites(eua.read_sites(sites), seed, size, REACH_M)
        except ConfigError as error:
            raise ConfigError("sites", str(sites), str(error)) from None
    else:
        positions = _positions("sites", sites)
        if len(np.unique(positions, axis=0)) < len(positions):
            raise ConfigError("sites", sites, "two are at the same place; give each once")
        if num_servers not in (None, len(positions)):
            raise ConfigError("num_servers", num_servers, f"there are {len(positions)} sites")
    near = np.asarray(graphs.linked(positions, REACH_M))
    return draw_network(graphs.repair(positions, near), seed), positions


def _check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in tuple(choices):
        raise ConfigError(name, value, f"choose one of {', '.join(choices)}")


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
