"""``python -m runs.solve problem=robust instances=FILE.csv``: certified answers to given instances.

Writes ``allocation.csv``, a row per device, and ``solutions.csv``, a row per instance: energy, the
certified lower bound and the gap; of an infeasible instance how much bandwidth is missing, and by
which factor its deadlines would have to grow.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from allocators import certificate, robust
from jaxenv.dnn.csv_io import read_rows
from jaxenv.errors import ConfigError
from runs import program, tables
from runs.command_line import given_settings
from runs.folders import claim_folder, write_records
from runs.settings import Config, check_integer

REQUIRED = ("instance", "model", "distance_m", "deadline_s", "risk", "bandwidth_mhz")
OPTIONAL = ("power_w",)
ALLOCATION = (
    *("instance", "device", "model", "partitioning_point", "bandwidth_mhz", "frequency_ghz"),
    *("upload_s", "energy_j", "slack_s"),
)
SOLUTIONS = (
    *("instance", "devices", "feasible", "energy_j", "lower_bound_j", "gap", "price_j_per_mhz"),
    *("bandwidth_mhz", "least_bandwidth_mhz", "missing_bandwidth_mhz", "deadline_factor"),
)
OF_DRAWN = (
    *("num_instances", "num_devices", "model", "bandwidth_mhz", "deadline_s", "risk"),
    *("power_w", "seed"),
)
PUBLISHED_MHZ = {"alexnet": 10 / 12, "resnet152": 2.5}
MOST_STRETCH = 1000.0


class Problem(NamedTuple):
    """One instance as given; arrays ``[N]``, in the units of their names."""

    label: str
    model: np.ndarray
    distance_m: np.ndarray
    deadline_s: np.ndarray
    risk: np.ndarray
    power_w: np.ndarray
    bandwidth_mhz: float


def main(argv: list[str] | None = None) -> None:
    """The program."""
    program.run_program("solve", run, argv)


def run(config: Config, folder: Path) -> None:
    """Solves the instances of a file, or drawn ones."""
    if config["problem"] != "robust":
        raise ConfigError("problem", config["problem"], "choose robust")
    if config["calibration"] not in robust.GAIN_DB:
        valid = f"choose one of {', '.join(robust.GAIN_DB)}"
        raise ConfigError("calibration", config["calibration"], valid)
    gap = config["gap"]
    if gap is not None and not (isinstance(gap, (int, float)) and 0 < gap < 1):
        raise ConfigError("gap", gap, "give a number in (0, 1), or null")
    check_integer(config, "batch_size")
    if config["instances"] is None:
        problems = drawn(config)
    else:
        ignored = [name for name in given_settings() if name in OF_DRAWN]
        if ignored:
            valid = "it is for drawn instances; those of a file say it themselves"
            raise ConfigError(ignored[0], config[ignored[0]], valid)
        problems = read_problems(config["instances"])
    claim_folder(folder)
    write_records(folder, config)
    allocations: list[tables.Row] = []
    solutions: list[tables.Row] = []
    size = config["batch_size"]
    with tqdm(total=len(problems), unit="instance") as bar:
        for first in range(0, len(problems), size):
            part = problems[first : first + size]
            for rows, solution in solve(part, config["calibration"], gap):
                allocations += rows
                solutions.append(solution)
                bar.update()
    tables.write_csv(folder / "allocation.csv", ALLOCATION, allocations)
    tables.write_csv(folder / "solutions.csv", SOLUTIONS, solutions)
    print(report(solutions, gap))
    print(f"written to {folder}")


# ---- instances ---------------------------------------------------------------------------------


def published_distances_m(seed: int, num: int) -> np.ndarray:
    """Distances of devices uniform in the published square; the first ones are common to all N."""
    return np.hypot(*np.random.default_rng(seed).uniform(-200, 200, (num, 2)).T)


def drawn(config: Config) -> list[Problem]:
    """Devices uniform in the published square; generator ``seed + i`` draws instance ``i``."""
    for name in ("num_instances", "num_devices"):
        check_integer(config, name)
    check_integer(config, "seed", low=0)
    if config["model"] not in robust.MODELS:
        raise ConfigError("model", config["model"], f"choose one of {', '.join(robust.MODELS)}")
    num = config["num_devices"]
    bandwidth = config["bandwidth_mhz"]
    if bandwidth is None:
        bandwidth = num * PUBLISHED_MHZ[config["model"]]
    values = {name: config[name] for name in ("deadline_s", "risk", "power_w")}
    for name, value in (values | {"bandwidth_mhz": bandwidth}).items():
        reason = _invalid(name, value)
        if reason:
            raise ConfigError(name, value, reason)
    problems = []
    for index in range(config["num_instances"]):
        problems.append(
            Problem(
                label=str(index),
                model=np.full(num, list(robust.MODELS).index(config["model"])),
                distance_m=np.maximum(published_distances_m(config["seed"] + index, num), 1),
                bandwidth_mhz=bandwidth,
                **{name: np.full(num, float(value)) for name, value in values.items()},
            )
        )
    return problems


def read_problems(path: str) -> list[Problem]:
    """The instances of a CSV file with the columns `REQUIRED` and maybe `OPTIONAL`.

    Raises:
        ConfigError: the file cannot be read, lacks a column or has an unknown one, or holds a value
            that is not valid; the line is named.
    """
    if not isinstance(path, str):
        raise ConfigError("instances", path, "give the path of a CSV file, or null")
    try:
        header, rows = read_rows(Path(path))
    except ValueError as error:
        raise ConfigError.of("instances", path, error) from None
    missing = [name for name in REQUIRED if name not in header]
    unknown = [name for name in header if name not in REQUIRED + OPTIONAL]
    if missing or unknown or not rows:
        wrong = f"columns {missing} are missing" if missing else f"columns {unknown} are unknown"
        wrong = wrong if missing or unknown else "it has no rows"
        valid = f"{wrong}; give {', '.join(REQUIRED)} and, optionally, {', '.join(OPTIONAL)}"
        raise ConfigError("instances", path, valid)
    groups: dict[str, list[dict[str, Any]]] = {}
    for line, row in rows:
        where = f"instances: {path}: line {line}, "
        if not row["instance"]:
            raise ConfigError(f"{where}instance", row["instance"], "give a label")
        if row["model"] not in robust.MODELS:
            valid = f"choose one of {', '.join(robust.MODELS)}"
            raise ConfigError(f"{where}model", row["model"], valid)
        values: dict[str, Any] = {"model": list(robust.MODELS).index(row["model"])}
        for name in (*REQUIRED[2:], *OPTIONAL):
            text = row.get(name, "1.0" if name in OPTIONAL and name not in header else None)
            reason = _invalid(name, text)
            if reason:
                raise ConfigError(where + name, text, reason)
            values[name] = float(text)
        devices = groups.setdefault(row["instance"], [])
        if devices and devices[0]["bandwidth_mhz"] != values["bandwidth_mhz"]:
            valid = f"instance {row['instance']} has {devices[0]['bandwidth_mhz']:g} above"
            raise ConfigError(f"{where}bandwidth_mhz", values["bandwidth_mhz"], valid)
        devices.append(values)
    return [_problem(label, devices) for label, devices in groups.items()]


def _problem(label: str, devices: list[dict[str, Any]]) -> Problem:
    names = ("model", "distance_m", "deadline_s", "risk", "power_w")
    columns = {name: np.array([device[name] for device in devices]) for name in names}
    return Problem(label=label, bandwidth_mhz=devices[0]["bandwidth_mhz"], **columns)


def _invalid(name: str, value: Any) -> str | None:
    """What is valid, if this is not."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if name == "risk":
        return None if 0 < number < 1 else "give a probability in (0, 1)"
    return None if 0 < number < math.inf else "give a positive finite number"


# ---- answers -----------------------------------------------------------------------------------


def instances_of(problems: list[Problem], calibration: str) -> robust.Instance:
    """The problems as one pytree with a leading axis, padded to as many devices as the largest."""
    most = max(len(problem.model) for problem in problems)

    def padded(name: str) -> np.ndarray:
        rows = [getattr(problem, name) for problem in problems]
        return np.stack([np.pad(row, (0, most - len(row)), mode="edge") for row in rows])

    def make(model, distance_m, bandwidth_mhz, deadline_s, risk, power_w, count):
        made = robust.make_instance(
            *(model, distance_m, bandwidth_mhz, deadline_s, risk),
            p=power_w,
            calibration=calibration,
        )
        return robust.only(made, jnp.arange(most) < count)

    return jax.jit(jax.vmap(make))(
        *(padded("model"), padded("distance_m").astype(float)),
        np.array([problem.bandwidth_mhz for problem in problems], float),
        *(padded(name) for name in ("deadline_s", "risk", "power_w")),
        np.array([len(problem.model) for problem in problems]),
    )


@jax.jit
def least_deadline_factor(inst: robust.Instance) -> jax.Array:
    """Least factor on all deadlines at which an instance is feasible, to 1e-6; +inf beyond 1000."""

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = jnp.sqrt(low * high)
        possible = robust.feasible(inst.replace(D=inst.D * middle))
        return jnp.where(possible, low, middle), jnp.where(possible, middle, high)

    one = jnp.ones_like(inst.B)
    _, high = jax.lax.fori_loop(0, 32, halve, (one / MOST_STRETCH, one * MOST_STRETCH))
    possible = robust.feasible(inst.replace(D=inst.D * MOST_STRETCH))
    return jnp.where(possible, high, jnp.inf)


_solve_all = jax.jit(jax.vmap(certificate.solve))
_factors = jax.jit(jax.vmap(least_deadline_factor))


def solve(
    problems: list[Problem], calibration: str = "literal", gap: float | None = None
) -> list[tuple[list[tables.Row], tables.Row]]:
    """Rows of ``allocation.csv`` and the row of ``solutions.csv`` of every problem.

    Args:
        problems: solved in one compiled call.
        calibration: of the channel.
        gap: the relative gap that branch and bound has to reach; None = what `solve` proves.
    """
    instances = instances_of(problems, calibration)
    answers = jax.device_get(_solve_all(instances))
    factors = np.asarray(_factors(instances))
    results = []
    for index, problem in enumerate(problems):
        allocation, proof = jax.tree.map(lambda leaf, index=index: leaf[index], answers)
        if gap is not None and proof.feasible and proof.gap > gap:
            own = jax.tree.map(lambda leaf, index=index: leaf[index], instances)
            allocation, proof = jax.device_get(certificate.branch_and_bound(own, gap))
        results.append((_devices(problem, allocation), _solution(problem, proof, factors[index])))
    return results


def _devices(problem: Problem, allocation: robust.Allocation) -> list[tables.Row]:
    names = list(robust.MODELS)
    if not allocation.feasible:
        return []
    return [
        {
            "instance": problem.label,
            "device": n,
            "model": names[problem.model[n]],
            "partitioning_point": int(allocation.m[n]),
            "bandwidth_mhz": float(allocation.b[n]),
            "frequency_ghz": float(allocation.f[n]),
            "upload_s": float(allocation.t_off[n]),
            "energy_j": float(allocation.e_dev[n]),
            "slack_s": float(allocation.slack[n]),
        }
        for n in range(len(problem.model))
    ]


def _solution(problem: Problem, proof: certificate.Certificate, factor: float) -> tables.Row:
    feasible = bool(proof.feasible)
    least = float(proof.b_min_total)

    def shown(value: Any) -> float | None:
        return float(value) if feasible else None

    return {
        "instance": problem.label,
        "devices": len(problem.model),
        "feasible": feasible,
        "energy_j": shown(proof.ub),
        "lower_bound_j": shown(proof.lb),
        "gap": shown(proof.gap),
        "price_j_per_mhz": shown(proof.lam_dual),
        "bandwidth_mhz": problem.bandwidth_mhz,
        "least_bandwidth_mhz": least,
        "missing_bandwidth_mhz": max(least - problem.bandwidth_mhz, 0.0),
        "deadline_factor": float(factor),
    }


def report(solutions: list[tables.Row], gap: float | None = None, most: int = 20) -> str:
    """The printed table: the first instances, what is infeasible, the gaps, and those above gap."""
    lines = []
    for row in solutions[:most]:
        if row["feasible"]:
            answer = [f"{row['energy_j']:.6g}", f"{row['lower_bound_j']:.6g}", f"{row['gap']:.2g}"]
            lines.append([str(row["instance"]), str(row["devices"]), *answer, ""])
        else:
            lines.append([str(row["instance"]), str(row["devices"]), "", "", "", _missing(row)])
    header = ["instance", "devices", "energy [J]", "lower bound [J]", "gap", "infeasible"]
    text = [tables.format_table(header, lines)]
    if len(solutions) > most:
        text.append(f"... and {len(solutions) - most} more")
    gaps = [row["gap"] for row in solutions if row["feasible"]]
    text.append(f"{len(gaps)} of {len(solutions)} instances are feasible")
    if gaps:
        text[-1] += f"; certified gap: mean {np.mean(gaps):.2g}, largest {max(gaps):.2g}"
    above = 0 if gap is None else sum(found > gap for found in gaps)
    if above:
        text.append(f"{above} of them above the gap asked for, {gap:g}")
    return "\n".join(text)


def _missing(row: tables.Row) -> str:
    """What would make an instance feasible."""
    ways = []
    least, has = row["least_bandwidth_mhz"], row["bandwidth_mhz"]
    if math.isfinite(least):
        digits = _digits(least, has)
        ways.append(
            f"needs {least:.{digits}g} MHz, {row['missing_bandwidth_mhz']:.4g} more than "
            f"the {has:.{max(digits, 6)}g} it has"
        )
    factor = row["deadline_factor"]
    if math.isfinite(factor):
        ways.append(f"deadlines {factor:.{_digits(factor, 1)}g} times as long")
    return ", or ".join(ways) or "no bandwidth and no deadline up to 1000 times as long suffices"


def _digits(value: float, reference: float) -> int:
    """Four significant digits of ``value``, and one more for each it shares with ``reference``."""
    distance = abs(value - reference)
    return 4 + max(0, math.floor(math.log10(value / distance))) if distance else 4


if __name__ == "__main__":
    main()
