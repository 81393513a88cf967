"""Ways of describing a services scenario: services, measured tables, sites, users."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from jaxenv.data import accuracy as accuracy_tables
from jaxenv.data import eua
from jaxenv.errors import ConfigError
from jaxenv.physics import graphs
from jaxenv.services.catalogue import Service, detection, tracking
from jaxenv.services.network import REACH_M, SITES_M, Network, default_network, draw_network
from jaxenv.validation import check_integer


def names_of(given: Any) -> tuple[str, ...]:
    """Names of services."""
    known = isinstance(given, (list, tuple)) and all(isinstance(name, str) for name in given)
    if not known or not given or len(set(given)) < len(given):
        raise ConfigError("service_names", given, "give different names")
    return tuple(given)


def published(count: int) -> list[Service]:
    """So many services, the two published ones in turn."""
    return [(detection, tracking)[i % 2]() for i in range(count)]


def services_of(given: Any) -> list[Service]:
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


def with_measured(option: str, path: Any, services: list[Service], field: str) -> list[Service]:
    """The services with a table of a CSV in place of their own, where it names them."""
    if not isinstance(path, (str, PathLike)):
        raise ConfigError(option, path, "give the path of a CSV file")
    try:
        tables = accuracy_tables.read_accuracy(path)
    except ConfigError as error:
        raise ConfigError.of(option, str(path), error) from None
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


def assigned(given: Any, num_services: int) -> np.ndarray:
    """The service of each agent, from how many agents each service has."""
    valid = f"give {num_services} numbers of agents, at least one above 0"
    counts = list(given) if isinstance(given, (list, tuple)) else []
    whole = all(isinstance(x, int) and not isinstance(x, bool) and x >= 0 for x in counts)
    if len(counts) != num_services or not whole or not sum(counts):
        raise ConfigError("agents_per_service", given, valid)
    return np.repeat(np.arange(num_services, dtype=np.int32), counts)


def users_of(users: Any, sites: Any) -> np.ndarray:
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
        raise ConfigError.of("users", str(users), error) from None


def _positions(name: str, given: Any) -> np.ndarray:
    """Positions ``[n, 2]`` in m."""
    try:
        positions = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        positions = np.zeros(0)
    if positions.ndim != 2 or positions.shape[1] != 2 or not np.isfinite(positions).all():
        raise ConfigError(name, given, "give positions [K, 2] in m, or the path of a CSV")
    return positions


def network_of(sites: Any, seed: Any, num_servers: Any) -> tuple[Network | None, np.ndarray | None]:
    """The network that is described, None for the environment's default, and its ``[K, 2]`` m."""
    if sites is None and seed is None:
        return None, None
    for name, value, least in (("scenario_seed", seed, 0), ("num_servers", num_servers, 1)):
        if value is not None:
            check_integer(name, value, least)
    size, seed = num_servers or len(SITES_M), seed or 0
    if sites is None:
        return draw_network(default_network(size).link_mbps > 0, seed), None
    if isinstance(sites, (str, PathLike)):
        try:
            positions, _ = eua.draw_sites(eua.read_sites(sites), seed, size, REACH_M)
        except ConfigError as error:
            raise ConfigError.of("sites", str(sites), error) from None
    else:
        positions = _positions("sites", sites)
        if len(np.unique(positions, axis=0)) < len(positions):
            raise ConfigError("sites", sites, "two are at the same place; give each once")
        if num_servers not in (None, len(positions)):
            raise ConfigError("num_servers", num_servers, f"there are {len(positions)} sites")
    near = np.asarray(graphs.linked(positions, REACH_M))
    return draw_network(graphs.repair(positions, near), seed), positions
