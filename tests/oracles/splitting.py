"""Slow version of adaptive DNN splitting, one slot at a time in float64.

It exists to be compared with the fast implementation and shares no code with it: the network from
its layer table, the rate by SciPy's Lambert W (or, where that loses digits, by bracketing), plain
loops over the splitting points.

Source: "Energy-efficient cooperative inference via adaptive deep neural network splitting at the
edge", IEEE ICC 2023; numbers in parentheses are its equations.
"""

from __future__ import annotations

import dataclasses
import math

from scipy.optimize import brentq
from scipy.special import lambertw

BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def width(size: int, kernel: int, stride: int) -> int:
    """Output side of a convolution padded by (K - 1) / 2."""
    return (size - kernel + kernel - 1) // stride + 1


def network() -> tuple[list[int], list[int], list[int], list[int]]:
    """Per segment of MobileNetV2: MACs of convolutions, the same over output channels, MACs of
    fully connected layers, elements of the output. Segment 0 is the input."""
    conv, per_output, fc, elements = [0], [0], [0], [224 * 224 * 3]
    side = width(224, 3, 2)
    conv.append(side**2 * 3 * 9 * 32)
    per_output.append(side**2 * 3 * 9)
    fc.append(0)
    elements.append(side**2 * 32)
    inputs = 32
    for t, outputs, repeats, first in BOTTLENECKS:
        for repeat in range(repeats):
            hidden, stride = t * inputs, first if repeat == 0 else 1
            macs = parts = 0
            if t > 1:
                macs += side**2 * inputs * hidden
                parts += side**2 * inputs
            side = width(side, 3, stride)
            macs += side**2 * 9 * hidden
            parts += side**2 * 9
            macs += side**2 * hidden * outputs
            parts += side**2 * hidden
            conv.append(macs)
            per_output.append(parts)
            fc.append(0)
            elements.append(side**2 * outputs)
            inputs = outputs
    conv.append(side**2 * inputs * 1280)
    per_output.append(side**2 * inputs)
    fc.append(1280 * 1000)
    elements.append(0)
    return conv, per_output, fc, elements


@dataclasses.dataclass
class System:
    """A scenario, the published one by default, and its virtual queues."""

    beta: float = 3.0
    alpha_max: float = 1.0
    v: float = 3.0
    exact: bool = False
    local_flops: float = 1.3e12
    remote_flops: float = 21e12
    distance_m: float = 50.0
    carrier_hz: float = 3.5e9
    bandwidth_hz: float = 200e6
    noise_w_per_hz: float = 10**-20.4
    power_min_w: float = 0.010
    power_max_w: float = 0.100
    delay_avg_s: float = 0.050
    delay_max_s: float = 0.100
    outage_eps: float = 0.01
    z: float = 0.0
    h: float = 0.0

    def __post_init__(self) -> None:
        conv, per_output, fc, elements = network()
        self.macs, self.energy = [], []
        macs, energy = 0, 0.0
        for c, p, f in zip(conv, per_output, fc, strict=True):
            macs += c + f
            energy += 2.6727e-8 * p + 1.21334e-10 * c + 6.2454e-9 * f
            self.macs.append(macs)
            self.energy.append(energy)
        self.bits = [32 * n for n in elements]
        wavelengths = 4 * math.pi * self.carrier_hz / 299_792_458.0
        path_loss = wavelengths**2 * self.distance_m**self.beta
        self.snr_per_watt = 1 / (path_loss * self.noise_w_per_hz * self.bandwidth_hz)

    def outcome(self, k: int, rate: float, n: float, x: float, alpha: float):
        """``(delay, energy)`` of a decision; (7) to (11)."""
        g = self.snr_per_watt * x
        local = 2 * self.macs[k] * n / self.local_flops
        remote = 2 * (self.macs[-1] - self.macs[k]) * n / (alpha * self.remote_flops)
        sending = self.bits[k] * n / rate
        power = math.expm1(rate * math.log(2) / self.bandwidth_hz) / g
        return local + sending + remote, n * self.energy[k] + power * sending

    def rates(self, x: float) -> tuple[float, float]:
        """Least and largest rate."""
        g = self.snr_per_watt * x
        least, most = (math.log1p(p * g) for p in (self.power_min_w, self.power_max_w))
        return least * self.bandwidth_hz / math.log(2), most * self.bandwidth_hz / math.log(2)

    def best_rate(self, omega: float, x: float) -> float:
        """The rate of (19) for a weight of the delay."""
        return min(max(self.free_rate(omega, x), self.rates(x)[0]), self.rates(x)[1])

    def free_rate(self, omega: float, x: float) -> float:
        c = omega * self.snr_per_watt * x / self.v
        return stationary(c) * self.bandwidth_hz / math.log(2)

    def decide(self, n: float, x: float, alpha: float) -> tuple[int, float]:
        """Splitting point and rate of the controller."""
        best = (math.inf, 0, 0.0)
        omega = self.z if self.exact else self.z + self.h / self.delay_max_s
        plain = self.best_rate(omega, x)
        for k in range(len(self.macs)):
            candidates = [plain]
            if self.exact:
                local = 2 * self.macs[k] * n / self.local_flops
                remote = 2 * (self.macs[-1] - self.macs[k]) * n / (alpha * self.remote_flops)
                slack = self.delay_max_s - local - remote
                if slack > 0:
                    needed = self.bits[k] * n / slack * (1 + 1e-12)
                    if needed <= self.rates(x)[1]:
                        candidates.append(max(plain, needed))
            for rate in candidates:
                value = self.value(k, rate, n, x, alpha)
                if value < best[0]:
                    best = (value, k, rate)
        return best[1], best[2]

    def value(self, k: int, rate: float, n: float, x: float, alpha: float) -> float:
        """Z D + H o + V E."""
        delay, energy = self.outcome(k, rate, n, x, alpha)
        return self.z * delay + self.h * (delay > self.delay_max_s) + self.v * energy

    def step(self, n: float, x: float, alpha: float) -> dict[str, float]:
        """One slot: decision, outcome, queues (13), (14)."""
        k, rate = self.decide(n, x, alpha)
        value = self.value(k, rate, n, x, alpha)
        delay, energy = self.outcome(k, rate, n, x, alpha)
        late = float(delay > self.delay_max_s)
        self.z = max(0.0, self.z + delay - self.delay_avg_s)
        self.h = max(0.0, self.h + late - self.outage_eps)
        return {
            "split": k,
            "rate_bps": rate,
            "delay_s": delay,
            "energy_j": energy,
            "outage": late,
            "objective": value,
            "z": self.z,
            "h": self.h,
        }


def stationary(c: float) -> float:
    """The u >= 0 with 1 + (u - 1) e^u = c."""
    if c <= 0:
        return 0.0
    if c > 1e-3:
        return 1 + lambertw((c - 1) / math.e).real

    def excess(u: float) -> float:
        return sum(u**n * (n - 1) / math.factorial(n) for n in range(2, 12)) - c

    return brentq(excess, 0, 1, xtol=1e-18, rtol=1e-15)
