"""Slow version of joint model deployment, selection and configuration, in float64.

It exists to be compared with the fast implementation and shares no code with it: tables from their
formulas, shortest paths by Dijkstra in fractions, one slot as a loop over the agents. Only the
baselines, which need thousands of slots, evaluate batches of joint actions at once.

Source: "Joint DNN Model Deployment, Selection, and Configuration for Heterogeneous Inference
Services Toward Edge Intelligence", IEEE Transactions on Mobile Computing, 2025; numbers in
parentheses are its equations.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

BANDWIDTHS = (50, 100, 200, 300, 400)
UPLINKS = (36, 48, 64, 72)
SPEEDS = (0.5, 1.26, 1.33)
MEMORIES = (1, 2, 4)
MASKED_MB = 1e9

Action = tuple[int, int, int]


# ---- services ------------------------------------------------------------------------------------


@dataclasses.dataclass
class Service:
    """Tables of one service over its configurations c and models m."""

    accuracy: list[list[float]]
    size: list[float]
    inferences: list[float]
    memory_mb: list[float]
    tflop: list[float]
    data_mb: tuple[float, float]
    limits_s: Sequence[float]

    def standard(self, c: int, m: int) -> float:
        """AccStd of (19)."""
        values = [x for row in self.accuracy for x in row]
        return (self.accuracy[c][m] - min(values)) / (max(values) - min(values))


def detection() -> Service:
    precision = (0.375, 0.356, 0.420, 0.394)
    by_scale, by_quality = (1, 0.93, 0.78, 0.46), (1, 0.97, 0.92, 0.85)
    worst = (1 - 0.097 / (0.356 * 0.85)) / (1 - 0.46)
    accuracy, size = [], []
    for scale, g in zip((1, 0.75, 0.5, 0.25), by_scale, strict=True):
        for j, quality in enumerate((100, 90, 80, 70)):
            kappa = 1 + (worst - 1) * (100 - quality) / 30
            accuracy.append([ap * by_quality[j] * (1 - (1 - g) * kappa) for ap in precision])
            size.append(scale**1.7 * (1, 0.45, 0.32, 0.26)[j])
    return Service(
        accuracy,
        size,
        inferences=[1] * 16,
        memory_mb=[159.48, 129.31, 380.91, 232.13],
        tflop=[0.1747, 0.8193, 0.3688, 0.2380],
        data_mb=(1, 10),
        limits_s=(0.5, 1, 1.5, 2),
    )


def tracking() -> Service:
    precision = [0.85 * x / 78.6 for x in (78.6, 62.0, 68.2)]
    slowest = 0.6 / (min(precision) * 0.93)
    accuracy, size, inferences = [], [], []
    for scale, g in zip((1, 0.75, 0.5, 0.25), (1, 0.995, 0.985, 0.93), strict=True):
        for fps in (30, 15, 10, 5):
            h = 1 - (1 - slowest) * math.log(30 / fps) / math.log(6)
            accuracy.append([mota * g * h for mota in precision])
            size.append(scale**1.7 * (fps / 30) ** 0.8)
            inferences.append(fps)
    return Service(
        accuracy,
        size,
        inferences,
        memory_mb=[378.02, 157.93, 216.95],
        tflop=[0.3959, 0.1448, 0.1416],
        data_mb=(5, 20),
        limits_s=(1, 5, 10, 15, 20, 25),
    )


# ---- network -------------------------------------------------------------------------------------

SITES = (
    (12, 31),
    (455, -22),
    (841, 40),
    (1310, 18),
    (-35, 402),
    (402, 351),
    (905, 418),
    (1262, 369),
    (41, 741),
    (446, 802),
    (822, 745),
    (1325, 790),
    (-18, 1130),
    (471, 1118),
    (880, 1171),
    (1268, 1109),
)


def linked(sites: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    pairs = itertools.combinations(range(len(sites)), 2)
    return [(i, j) for i, j in pairs if math.dist(sites[i], sites[j]) < 500]


def default_links() -> dict[tuple[int, int], int]:
    return {(i, j): BANDWIDTHS[(7 * i + 3 * j + i * j) % 5] for i, j in linked(SITES)}


def shortest(
    links: dict[tuple[int, int], float], servers: int, metric: str = "delay"
) -> tuple[list[list[Fraction]], list[list[int]]]:
    """(R in s/Mb, links) between all servers: least sum of 1/w, then fewest links; or the converse.

    1/w is rounded to 1/1200 s/Mb. Raises ``ValueError`` for a network in several parts.
    """
    near = {k: [] for k in range(servers)}
    for (i, j), bandwidth in links.items():
        seconds = Fraction(round(1200 / bandwidth), 1200)
        near[i].append((j, seconds))
        near[j].append((i, seconds))
    R, hops = [], []
    for source in range(servers):
        done = {}
        heap = [((Fraction(0), Fraction(0)), source)]
        while heap:
            length, k = heapq.heappop(heap)
            if k in done:
                continue
            done[k] = length
            for j, seconds in near[k]:
                step = (seconds, Fraction(1)) if metric == "delay" else (Fraction(1), seconds)
                heapq.heappush(heap, ((length[0] + step[0], length[1] + step[1]), j))
        if len(done) < servers:
            raise ValueError(f"server {source} reaches {len(done)} of {servers} servers")
        first, second = ([done[k][part] for k in range(servers)] for part in (0, 1))
        R.append(first if metric == "delay" else second)
        hops.append([int(x) for x in (second if metric == "delay" else first)])
    return R, hops


# ---- scenarios and slots -------------------------------------------------------------------------


@dataclasses.dataclass
class Scenario:
    """Services with their agents, the network and the constants; the default one by default.

    ``links`` in Mbit/s, ``compute`` A in TFLOP/s, ``memory_gb`` B, ``uplink`` rho in Mbit/s.
    """

    agents: Sequence[int] = (4, 4)
    services: list[Service] = dataclasses.field(default_factory=lambda: [detection(), tracking()])
    links: dict[tuple[int, int], float] = dataclasses.field(default_factory=default_links)
    compute: Sequence[float] = (1.33, 0.5, 1.26) * 5 + (1.33,)
    memory_gb: Sequence[float] = (2, 1, 4, 1, 4, 2, 1, 2, 1, 4, 2, 4, 4, 1, 2, 1)
    uplink: Sequence[float] = (48, 72, 36, 64, 64, 36, 72, 48, 36, 64, 48, 72, 72, 48, 64, 36)
    metric: str = "delay"
    preset: str = "literal"
    penalty: float = -100.0
    busy_tflop: tuple[float, float] = (0.1, 0.3)
    busy_mb: tuple[float, float] = (100, 900)
    usd_per_s: float = 3e-4
    usd_per_gb: float = 0.016
    usd_per_mb_link: float = 0.002
    bits_per_byte: float = 8
    mb_per_gb: float = 1024

    def __post_init__(self) -> None:
        self.accuracy_scale = {"literal": 1.0, "percent": 100.0}[self.preset]
        self.servers = len(self.compute)
        self.owner = [s for s, count in enumerate(self.agents) for _ in range(count)]
        R, self.hops = shortest(self.links, self.servers, self.metric)
        self.R = [[float(x) for x in row] for row in R]

    def service(self, n: int) -> Service:
        return self.services[self.owner[n]]


@dataclasses.dataclass
class Slot:
    """Per agent: local server, tolerated delay, data; per server: work and memory in use."""

    local: list[int]
    limit_s: list[float]
    data_mb: list[float]
    busy_tflop: list[float]
    busy_mb: list[float]


def random_scenario(seed: int, **fields) -> Scenario:
    """The default sites; bandwidths over the links, then all A, all B, all rho, uniform."""
    rng = np.random.default_rng(seed)
    links = linked(SITES)
    return Scenario(
        links=dict(zip(links, rng.choice(BANDWIDTHS, len(links)).tolist(), strict=True)),
        compute=rng.choice(SPEEDS, 16).tolist(),
        memory_gb=rng.choice(MEMORIES, 16).tolist(),
        uplink=rng.choice(UPLINKS, 16).tolist(),
        **fields,
    )


def random_slot(scenario: Scenario, rng: np.random.Generator) -> Slot:
    services = [scenario.services[s] for s in scenario.owner]
    return Slot(
        local=rng.integers(scenario.servers, size=len(services)).tolist(),
        limit_s=[float(rng.choice(x.limits_s)) for x in services],
        data_mb=[rng.uniform(*x.data_mb) for x in services],
        busy_tflop=rng.uniform(*scenario.busy_tflop, scenario.servers).tolist(),
        busy_mb=rng.uniform(*scenario.busy_mb, scenario.servers).tolist(),
    )


def fixed_slot(scenario: Scenario, case: int) -> Slot:
    """A slot without random numbers."""
    local, limit, data = [], [], []
    for i in range(len(scenario.owner)):
        service = scenario.service(i)
        low, high = service.data_mb
        local.append((5 * i + 3 * case) % 16)
        limit.append(service.limits_s[(i + case) % len(service.limits_s)])
        data.append(low + (high - low) * ((3 * i + 2 * case) % 10) / 10)
    return Slot(
        local,
        limit,
        data,
        busy_tflop=[0.1 + 0.2 * ((7 * k + case) % 16) / 16 for k in range(scenario.servers)],
        busy_mb=[100 + 800 * ((11 * k + 5 * case) % 16) / 16 for k in range(scenario.servers)],
    )


# ---- one slot ------------------------------------------------------------------------------------


@dataclasses.dataclass
class Result:
    """Per agent, rejected ones as they would have been; memory cost; reward and its parts."""

    accepted: list[bool]
    late: list[bool]
    memory_reject: list[bool]
    delay_s: list[float]
    accuracy: list[float]
    cost_rou: list[float]
    cost_cmp: list[float]
    cost_mem: float = 0.0
    r1: float = 0.0
    r2: float = 0.0
    r3: float = 0.0
    r: float = 0.0


def play(scenario: Scenario, slot: Slot, actions: Sequence[Action | None]) -> Result:
    """Admits the requests in the order of the agents; ``None`` is an absent agent.

    A model that the service does not have needs no work and 1e9 MB.
    """
    queue = [0.0] * scenario.servers
    stored = [0.0] * scenario.servers
    instances = set()
    out = Result([], [], [], [], [], [], [])
    for u, action in enumerate(actions):
        if action is None:
            continue
        c, m, k = action
        service, v = scenario.service(u), slot.local[u]
        exists = m < len(service.tflop)
        data = service.size[c] * slot.data_mb[u]  # (2)
        bits = scenario.bits_per_byte * data
        access = bits / scenario.uplink[v]  # (3)
        transfer = bits * scenario.R[v][k]  # (4)
        work = service.tflop[m] * service.inferences[c] if exists else 0.0
        computing = (work + queue[k] + slot.busy_tflop[k]) / scenario.compute[k]  # (5)
        delay = access + transfer + computing  # (6)
        model = service.memory_mb[m] if exists else MASKED_MB
        need = data + (0.0 if (scenario.owner[u], m, k) in instances else model)
        late = delay > slot.limit_s[u]  # (15)
        room = scenario.mb_per_gb * scenario.memory_gb[k]
        full = slot.busy_mb[k] + stored[k] + need > room  # (14)
        accepted = not late and not full
        routing = scenario.usd_per_mb_link * bits * scenario.hops[v][k]  # (8)
        cost = scenario.usd_per_s * work / scenario.compute[k]
        cost += scenario.usd_per_gb * data / scenario.mb_per_gb  # (10)
        if accepted:
            queue[k] += work
            stored[k] += need
            instances.add((scenario.owner[u], m, k))
            accuracy = scenario.accuracy_scale * service.standard(c, m)
            out.r2 -= delay
            out.r3 -= routing + cost
        else:
            accuracy = scenario.penalty
        out.r1 += accuracy
        out.accepted.append(accepted)
        out.late.append(late)
        out.memory_reject.append(full and not late)
        out.delay_s.append(delay)
        out.accuracy.append(accuracy)
        out.cost_rou.append(routing)
        out.cost_cmp.append(cost)
    for s, m, _ in instances:
        memory = scenario.services[s].memory_mb[m]
        out.cost_mem += scenario.usd_per_gb * memory / scenario.mb_per_gb  # (9)
    out.r3 -= out.cost_mem
    out.r = out.r1 + out.r2 + out.r3  # (21)
    return out


def doubling(actions: Sequence[Action]) -> float:
    """Agents minus distinct servers, over agents."""
    return 1 - len({k for _, _, k in actions}) / len(actions)


# ---- batches of requests -------------------------------------------------------------------------

Requests = dict[str, np.ndarray]


def options(scenario: Scenario, slot: Slot) -> list[Requests]:
    """Per agent, what each of its actions asks for: arrays over (c, m, k) in this order."""
    compute, room = np.array(scenario.compute), scenario.mb_per_gb * np.array(scenario.memory_gb)
    per_gb = scenario.usd_per_gb / scenario.mb_per_gb
    result = []
    for u, s in enumerate(scenario.owner):
        service, v = scenario.services[s], slot.local[u]
        shape = len(service.size), len(service.tflop), scenario.servers
        c, m, k = (x.ravel() for x in np.indices(shape))
        data = np.array(service.size)[c] * slot.data_mb[u]
        bits = scenario.bits_per_byte * data
        work = np.array(service.tflop)[m] * np.array(service.inferences)[c]
        standard = [[service.standard(i, j) for j in range(shape[1])] for i in range(shape[0])]
        computing = scenario.usd_per_s * work / compute[k] + per_gb * data
        routing = scenario.usd_per_mb_link * bits * np.array(scenario.hops[v])[k]
        memory = np.array(service.memory_mb)[m]
        result.append(
            {
                "service": np.full(len(c), s),
                "configuration": c,
                "model": m,
                "server": k,
                "link_s": bits / scenario.uplink[v] + bits * np.array(scenario.R[v])[k],
                "work": work,
                "data_mb": data,
                "memory_mb": memory,
                "cost": routing + computing,
                "model_cost": per_gb * memory,
                "accuracy": scenario.accuracy_scale * np.array(standard)[c, m],
                "limit_s": np.full(len(c), slot.limit_s[u]),
                "busy_tflop": np.array(slot.busy_tflop)[k],
                "busy_mb": np.array(slot.busy_mb)[k],
                "compute": compute[k],
                "room_mb": room[k],
            }
        )
    return result


def pick(requests: Requests, index) -> Requests:
    return {name: values[index] for name, values in requests.items()}


def batch_rewards(scenario: Scenario, requests: Sequence[Requests]) -> np.ndarray:
    """Joint rewards of a batch: per agent, in admission order, arrays of its length or length 1."""
    rows = np.arange(max(len(x["server"]) for x in requests))
    models = max(len(x.tflop) for x in scenario.services)
    queue, stored = np.zeros((2, len(rows), scenario.servers))
    placed = np.zeros((len(rows), len(scenario.services), models, scenario.servers), bool)
    total = np.zeros(len(rows))
    for x in requests:
        here = rows, x["server"]
        instance = rows, x["service"], x["model"], x["server"]
        busy = x["work"] + queue[here] + x["busy_tflop"]
        delay = x["link_s"] + busy / x["compute"]
        shared = placed[instance]
        need = x["data_mb"] + np.where(shared, 0, x["memory_mb"])
        ok = delay <= x["limit_s"]
        ok &= x["busy_mb"] + stored[here] + need <= x["room_mb"]
        queue[here] += ok * x["work"]
        stored[here] += ok * need
        placed[instance] |= ok
        served = x["accuracy"] - delay - x["cost"] - np.where(shared, 0, x["model_cost"])
        total += np.where(ok, served, scenario.penalty)
    return total


# ---- baselines and bounds ------------------------------------------------------------------------


def alone(scenario: Scenario, x: Requests) -> tuple[np.ndarray, np.ndarray]:
    """Own values S_n(a) and delays in an otherwise idle network."""
    delay = x["link_s"] + (x["work"] + x["busy_tflop"]) / x["compute"]
    ok = delay <= x["limit_s"]
    ok &= x["busy_mb"] + (x["data_mb"] + x["memory_mb"]) <= x["room_mb"]
    served = x["accuracy"] - delay - x["cost"] - x["model_cost"]
    return np.where(ok, served, scenario.penalty - delay), delay


def as_actions(requests: Sequence[Requests], indices: Sequence[int]) -> list[Action]:
    return [
        (int(x["configuration"][i]), int(x["model"][i]), int(x["server"][i]))
        for x, i in zip(requests, indices, strict=True)
    ]


def random_actions(scenario: Scenario, rng: np.random.Generator) -> list[Action]:
    sizes = [(len(x.size), len(x.tflop)) for x in map(scenario.service, range(len(scenario.owner)))]
    return [tuple(map(int, rng.integers((C, M, scenario.servers)))) for C, M in sizes]


def heuristic(scenario: Scenario, slot: Slot) -> list[Action]:
    asked = options(scenario, slot)
    return as_actions(asked, heuristic_indices(scenario, asked))


def heuristic_indices(scenario: Scenario, asked: Sequence[Requests]) -> list[int]:
    return [int(np.argmax(alone(scenario, x)[0])) for x in asked]


def best_on_servers(scenario: Scenario, x: Requests) -> tuple[np.ndarray, np.ndarray]:
    """(V(k), index of the action that has it) for each server."""
    values = alone(scenario, x)[0].reshape(-1, scenario.servers)
    rows = np.argmax(values, axis=0)
    servers = np.arange(scenario.servers)
    return values[rows, servers], rows * scenario.servers + servers


def price_table(scenario: Scenario, slot: Slot, prices: np.ndarray) -> list[Action]:
    """``prices`` p[n, k]."""
    asked = options(scenario, slot)
    indices = []
    for x, price in zip(asked, prices, strict=True):
        values, best = best_on_servers(scenario, x)
        indices.append(int(best[np.argmax(values - price)]))
    return as_actions(asked, indices)


def responses(
    scenario: Scenario, asked: Sequence[Requests], indices: Sequence[int | None], u: int
) -> np.ndarray:
    """Joint rewards of all actions of agent u, given the others' (``None``: absent)."""
    joint = []
    for n, x in enumerate(asked):
        if n == u:
            joint.append(x)
        elif indices[n] is not None:
            joint.append(pick(x, slice(indices[n], indices[n] + 1)))
    return batch_rewards(scenario, joint)


def greedy_indices(scenario: Scenario, asked: Sequence[Requests], order) -> list[int]:
    """Agents choose in ``order`` and are admitted in that of their indices."""
    indices = [None] * len(asked)
    for u in order:
        indices[u] = int(np.argmax(responses(scenario, asked, indices, u)))
    return indices


def seq_greedy(scenario: Scenario, slot: Slot) -> list[Action]:
    asked = options(scenario, slot)
    return as_actions(asked, greedy_indices(scenario, asked, range(len(asked))))


def coord_descent(scenario: Scenario, slot: Slot, sweeps: int = 30) -> list[Action]:
    asked = options(scenario, slot)
    order = range(len(asked))
    results = []
    for start in (
        greedy_indices(scenario, asked, order),
        heuristic_indices(scenario, asked),
        greedy_indices(scenario, asked, reversed(order)),
    ):
        indices, unchanged = list(start), 0
        for u in itertools.islice(itertools.cycle(order), sweeps * len(asked)):
            values = responses(scenario, asked, indices, u)
            best = int(np.argmax(values))
            unchanged += 1
            if values[best] > values[indices[u]] + 1e-12:
                indices[u], unchanged = best, 0
            value = values[indices[u]]
            if unchanged == len(asked):
                break
        results.append((value, indices))
    return as_actions(asked, max(results, key=lambda result: result[0])[1])


def upper_bound(scenario: Scenario, slot: Slot) -> float:
    total = 0.0
    for x in options(scenario, slot):
        _, delay = alone(scenario, x)
        ok = (delay <= x["limit_s"]) & (x["busy_mb"] + x["data_mb"] <= x["room_mb"])
        served = np.where(ok, x["accuracy"] - delay - x["cost"], scenario.penalty)
        total += max(scenario.penalty, float(served.max()))
    return total


def fit_prices(
    scenario: Scenario,
    slots: Sequence[Slot],
    rng: np.random.Generator,
    starts: int = 60,
    proposals: int = 6000,
) -> tuple[np.ndarray, float]:
    """(prices p[n, k], mean training reward) by random search over tables."""
    n, servers, scale = len(scenario.owner), scenario.servers, scenario.accuracy_scale
    rows = np.arange(len(slots))
    values, asked = np.empty((n, len(slots), servers)), [[] for _ in range(n)]
    for i, slot in enumerate(slots):
        for u, x in enumerate(options(scenario, slot)):
            values[u, i], best = best_on_servers(scenario, x)
            asked[u].append(pick(x, best))
    asked = [{name: np.stack([x[name] for x in xs]) for name in xs[0]} for xs in asked]

    def choose(u: int, prices: np.ndarray) -> Requests:
        return pick(asked[u], (rows, np.argmax(values[u] - prices[u], axis=1)))

    def score(requests: Sequence[Requests]) -> float:
        return float(batch_rewards(scenario, requests).mean())

    found = None
    for _ in range(starts):
        prices = np.full((n, servers), 5 * scale)
        for u, own in enumerate(np.array_split(rng.permutation(servers), n)):
            prices[u, own] = 0
        chosen = [choose(u, prices) for u in range(n)]
        value = score(chosen)
        if found is None or value > found[0]:
            found = value, prices, chosen
    value, prices, chosen = found
    for _ in range(proposals):
        a, b, k = *rng.integers(n, size=2), rng.integers(servers)
        other = prices.copy()
        if rng.random() < 0.5:
            other[[a, b], k] = prices[[b, a], k]
        else:
            other[a, k] = scale * rng.choice((0, 0.05, 0.1, 0.2, 0.5, 1, 5))
        if np.array_equal(other, prices):
            continue
        trial = [choose(u, other) if u in (a, b) else chosen[u] for u in range(n)]
        new = score(trial)
        if new >= value:
            value, prices, chosen = new, other, trial
    return prices, value
