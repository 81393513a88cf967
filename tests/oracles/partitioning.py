"""Slow version of fine-grained partitioning, one slot and one placement at a time in float64.

It exists to be compared with the fast implementation and shares no code with it: networks from
their layer tables, blocks by recursion, plain loops over blocks and places, and exhaustive search.

Source: "Distributed DNN Inference with Fine-grained Model Partitioning in Mobile Edge Computing
Networks", IEEE Transactions on Mobile Computing, 2024; numbers in parentheses are its equations.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools

CLOCKS = (2.1e9, 1.7e9, 2.5e9, 1.9e9, 2.3e9, 1.8e9, 2.4e9, 2.0e9, 2.2e9)


# ---- networks: lists of (FLOPs, parameters, output elements) of their units --------------------


def conv(kernel, cin, cout, side):
    work = 2 * kernel**2 * cin * cout * side**2 + cout * side**2
    return work, kernel**2 * cin * cout + cout, cout * side**2


def relu(elements):
    return elements, 0, elements


def pool(window, channels, side):
    return window**2 * channels * side**2, 0, channels * side**2


def dense(inputs, outputs):
    return 2 * inputs * outputs + outputs, inputs * outputs + outputs, outputs


def with_relu(*units):
    return [x for unit in units for x in (unit, relu(unit[2]))]


def alexnet():
    units = [*with_relu(conv(3, 3, 64, 16)), pool(2, 64, 8)]
    units += [*with_relu(conv(3, 64, 192, 8)), pool(2, 192, 4)]
    units += with_relu(conv(3, 192, 384, 4), conv(3, 384, 256, 4), conv(3, 256, 256, 4))
    units += [pool(2, 256, 2), *with_relu(dense(1024, 4096), dense(4096, 4096)), dense(4096, 10)]
    return units


def nin():
    units = with_relu(conv(5, 3, 192, 32), conv(1, 192, 160, 32), conv(1, 160, 96, 32))
    units += [pool(3, 96, 16)]
    units += with_relu(conv(5, 96, 192, 16), conv(1, 192, 192, 16), conv(1, 192, 192, 16))
    units += [pool(3, 192, 8)]
    units += with_relu(conv(3, 192, 192, 8), conv(1, 192, 192, 8), conv(1, 192, 10, 8))
    return [*units, pool(8, 10, 1)]


def vgg16():
    units, channels, side = [], 3, 32
    for width, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeats):
            units += with_relu(conv(3, channels, width, side))
            channels = width
        side //= 2
        units.append(pool(2, width, side))
    return [*units, *with_relu(dense(512, 512), dense(512, 512)), dense(512, 10)]


def resnet32():
    units, channels = with_relu(conv(3, 3, 16, 32)), 16
    for width, side in ((16, 32), (32, 16), (64, 8)):
        for _ in range(5):
            first, second = conv(3, channels, width, side), conv(3, width, width, side)
            elements = width * side**2
            units.append((first[0] + second[0] + 3 * elements, first[1] + second[1], elements))
            channels = width
    return [*units, pool(8, 64, 1), dense(64, 10)]


NETWORKS = {
    "alexnet_cifar10": alexnet,
    "nin": nin,
    "vgg16_cifar10": vgg16,
    "resnet32": resnet32,
}


def cuts(units, count):
    """Starts of the blocks of least sum of squared FLOPs, ties to the smallest last start."""

    @functools.cache
    def best(end, blocks):
        if blocks == 1:
            return sum(work for work, _, _ in units[:end]) ** 2, (0,)
        found = None
        for start in range(blocks - 1, end):
            cost, starts = best(start, blocks - 1)
            cost += sum(work for work, _, _ in units[start:end]) ** 2
            if found is None or cost < found[0]:
                found = cost, (*starts, start)
        return found

    return best(len(units), count)[1]


def blocks(name, count):
    """(FLOPs, bytes, input bits) of every block."""
    units = NETWORKS[name]()
    starts = cuts(units, count)
    ends = (*starts[1:], len(units))
    spans = [units[i:j] for i, j in zip(starts, ends, strict=True)]
    flops = [sum(unit[0] for unit in span) for span in spans]
    size = [4 * sum(unit[1] for unit in span) for span in spans]
    bits = [24576 if i == 0 else 32 * units[i - 1][2] for i in starts]
    return flops, size, bits


# ---- one slot ------------------------------------------------------------------------------------


@dataclasses.dataclass
class System:
    """Constants; the network's blocks; one list entry per block or edge server."""

    flops: list[float]
    size: list[float]
    input_bits: list[float]
    servers: int = 4
    device_hz: float = 1.5e9
    server_hz: list[float] | None = None
    cycles_per_flop: float = 1.0
    kappa: float = 1e-26
    transmit_w: float = 0.5
    wired_bps: float = 1e8
    slot_s: float = 15.0
    phi: float = 1.0
    cap_s: float = 60.0
    tau: list[float] | None = None
    beta: float = 1.0
    battery_j: float = 1e5
    throttle: float = 0.5
    downlink: str = "charge"
    energy: str = "literal"

    def __post_init__(self):
        self.server_hz = self.server_hz or list(CLOCKS[: self.servers])
        self.tau = self.tau or [4.0] * len(self.flops)


@dataclasses.dataclass
class State:
    """W and b with the device first; R of the servers alone."""

    W: list[float]
    E: float
    R: list[float]
    lam: float
    b: list[float]


def speed(system, state, place):
    if place:
        return system.server_hz[place - 1]
    return system.device_hz * (1 if state.E > 0 else system.throttle)


def calc0(system, state, block, place):
    """(3), (6)"""
    cycles = state.lam * system.cycles_per_flop * system.flops[block]
    return cycles / speed(system, state, place)


def transfer(system, state, block, k, n):
    """(5)"""
    bits = state.lam * system.input_bits[block]
    if k == n:
        return 0.0
    if k == 0:
        return bits / state.R[n - 1]
    if n == 0:
        return 0.0 if system.downlink == "free" else bits / state.R[k - 1]
    return bits / system.wired_bps


def run(system, state, action):
    """Everything that a placement leads to."""
    places = range(system.servers + 1)
    work = [0.0 for _ in places]
    for m, n in enumerate(action):
        work[n] += calc0(system, state, m, n)
    L, trans, waits, energy = [], [], [], 0.0
    for m, n in enumerate(action):
        k = action[m - 1] if m else 0
        trans.append(transfer(system, state, m, k, n))
        waits.append(state.W[n] if m == 0 or k != n else 0.0)
        share = 1 + system.phi * (work[n] + state.b[n]) / system.slot_s
        L.append(trans[m] + waits[m] + calc0(system, state, m, n) * share)
        if n == 0:
            cycles = state.lam * system.cycles_per_flop * system.flops[m]
            energy += system.kappa * speed(system, state, 0) ** 2 * cycles
        elif system.energy == "literal" or k == 0:
            energy += system.transmit_w * trans[m]
    psi = sum(max(x - tau, 0.0) for x, tau in zip(L, system.tau, strict=True))
    left = [
        min(max(state.W[n] + work[n] + state.b[n] - system.slot_s, 0.0), system.cap_s)
        for n in places
    ]
    return {
        "reward": -(sum(L) + system.beta * psi),
        "total_delay_s": sum(L),
        "edge_delay_s": sum(x for x, n in zip(L, action, strict=True) if n),
        "local_delay_s": sum(x for x, n in zip(L, action, strict=True) if not n),
        "transfer_s": sum(trans),
        "wait_s": sum(waits),
        "compute_s": sum(L) - sum(trans) - sum(waits),
        "penalty_s": psi,
        "energy_j": energy,
        "block_delay_s": L,
        "backlog_s": left,
        "remaining_energy_j": state.E - energy,
        "work_s": work,
    }


# ---- policies ------------------------------------------------------------------------------------


def greedy(system, state, own=False, places=None):
    places = list(range(system.servers + 1)) if places is None else places
    load = list(state.W)
    action = []
    for m in range(len(system.flops)):
        seen = [load[n] + (calc0(system, state, m, n) if own else 0) for n in places]
        n = places[seen.index(min(seen))]
        load[n] += calc0(system, state, m, n)
        action.append(n)
    return action


def apdi(system):
    M = len(system.flops)
    return [1 + (m * system.servers) // M for m in range(M)]


def chain_cost(system, state, m, k, n):
    """C_m(k, n): only the block's own work and the background share its place."""
    alone = calc0(system, state, m, n)
    L = transfer(system, state, m, k, n) + (state.W[n] if m == 0 or k != n else 0.0)
    L += alone * (1 + system.phi * (alone + state.b[n]) / system.slot_s)
    return L + system.beta * max(L - system.tau[m], 0.0)


def blockwise(system, state):
    action = []
    for m in range(len(system.flops)):
        k = action[-1] if m else 0
        seen = [chain_cost(system, state, m, k, n) for n in range(system.servers + 1)]
        action.append(seen.index(min(seen)))
    return action


def placements(system):
    return itertools.product(range(system.servers + 1), repeat=len(system.flops))


def viterbi(system, state):
    """(value, placement), by trying all."""

    def total(action):
        steps = zip((0, *action), action, strict=False)
        return sum(chain_cost(system, state, m, k, n) for m, (k, n) in enumerate(steps))

    return min((total(a), a) for a in placements(system))


def cost(system, state, action, price=0.0):
    found = run(system, state, action)
    ahead = zip(found["work_s"], state.W, state.b, strict=True)
    return -found["reward"] + price * sum(w * (W + w + b) for w, W, b in ahead) / system.slot_s


def optimum(system, state, price=0.0):
    """(cost, placement), by trying all."""
    return min((cost(system, state, a, price), a) for a in placements(system))


def local_search(system, state):
    """(cost, placement): best improvement from four starts."""
    M, results = len(system.flops), []
    starts = [
        viterbi(system, state)[1],
        greedy(system, state, own=True),
        blockwise(system, state),
        apdi(system),
    ]
    for start in starts:
        here, value = list(start), cost(system, state, list(start))
        while True:
            best = None
            for i in range(M):
                for j in range(i + 1, M + 1):
                    for n in range(system.servers + 1):
                        other = here[:i] + [n] * (j - i) + here[j:]
                        found = cost(system, state, other)
                        if best is None or found < best[0]:
                            best = found, other
            if value - best[0] <= 1e-12:
                break
            value, here = best
        results.append((value, here))
    return min(results, key=lambda result: result[0])
