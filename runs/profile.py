"""``python -m runs.profile model=...``: measures the blocks of a network on this machine.

Writes ``profile.csv``: work, output and parameters of every block, and mean, variance and
covariance of their times over many passes, as `robust` (``env.profile``) and `splitting`
(``env.network``) read them; and ``benchmark.json``, the time of the whole pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jaxenv import dnn
from jaxenv.errors import ConfigError
from jaxenv.registry import load_object
from runs import benchmark, program, tables
from runs.benchmarks import Measurement
from runs.folders import claim_folder, write_records
from runs.settings import Config, check_integer

FILE = "profile.csv"


def main(argv: list[str] | None = None) -> None:
    """The program."""
    program.run_program("profile", run, argv)


def run(config: Config, folder: Path) -> None:
    """Times the blocks of ``config["model"]``, one example at a time."""
    from jaxenv.dnn.flax_timing import block_calls, time_blocks

    check_integer(config, "repeats", low=2)
    for name in ("warm_up", "seed"):
        check_integer(config, name, low=0)
    module, blocks, macs = chosen_model(config)
    arguments = config["call_arguments"] or {}
    try:
        profile = dnn.profile_flax(module, config["input_shape"], blocks=blocks, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError.of("model", config["model"], error) from None
    claim_folder(folder)
    write_records(folder, config)
    with tqdm(total=profile.num_layers - 1, unit="block", desc="compiled") as bar:
        profile, calls = block_calls(
            *(module, config["input_shape"]),
            blocks=blocks,
            seed=config["seed"],
            on_block=bar.update,
            **arguments,
        )
    with tqdm(total=config["warm_up"] + config["repeats"], unit="pass", desc="timed") as bar:
        seconds = time_blocks(calls, config["repeats"], config["warm_up"], bar.update)
    times = moments(seconds)
    dnn.write_csv(profile, folder / FILE, times, macs)
    whole = seconds.sum(axis=1)
    measurements = [
        Measurement("pass, mean", float(whole.mean()), "s", 1),
        Measurement("pass, standard deviation", float(whole.std(ddof=1)), "s", 1),
        Measurement("pass, median", float(np.median(whole)), "s", len(whole)),
        Measurement("pass, 99th percentile", float(np.quantile(whole, 0.99)), "s", len(whole)),
    ]
    benchmark.write_benchmark(folder / "benchmark.json", measurements)
    print(time_table(profile, times))
    print(benchmark.measurement_table(measurements))
    print(f"written to {folder / FILE}")


def chosen_model(config: Config) -> tuple[Any, Any, dnn.MacCounts | None]:
    """The Flax module, its blocks and, of a network of the zoo, its MACs by kind."""
    name, shape, granularity = (config[key] for key in ("model", "input_shape", "granularity"))
    given, arguments = config["blocks"], config["call_arguments"]
    if not isinstance(name, str) or (":" not in name and name not in dnn.networks()):
        valid = f"give one of {', '.join(dnn.networks())}, or module:name of a Flax module"
        raise ConfigError("model", name, valid)
    whole = isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)
    if not whole or not shape:
        raise ConfigError("input_shape", shape, "give positive integers, images [height, width, c]")
    if arguments is not None and not isinstance(arguments, dict):
        valid = "give the further arguments of the module's call, call_arguments={train: false}"
        raise ConfigError("call_arguments", arguments, valid)
    if given is not None and not isinstance(given, dict):
        raise ConfigError("blocks", given, "give names and submodules, blocks={stem: [a, b]}")
    if ":" in name:
        return _imported(name), given, None
    try:
        network = dnn.network(name)
        if len(shape) != 3:
            raise ValueError("the networks of the library take images [height, width, channels]")
        height, width, channels = shape
        macs = None
        if given is None:
            macs = dnn.mac_counts(network, (channels, height, width), granularity)
        return dnn.to_flax(network), given or network.blocks(granularity), macs
    except ValueError as error:
        raise ConfigError.of("model", name, error) from None


def _imported(name: str) -> Any:
    """The module at ``"package.module:name"``; a class or a function is called for it."""
    import flax.linen as nn

    try:
        found = load_object(name)
    except (ImportError, AttributeError) as error:
        raise ConfigError("model", name, f"it cannot be imported: {error}") from None
    valid = "give a flax.linen module, or what makes one without arguments"
    try:
        module = found() if callable(found) and not isinstance(found, nn.Module) else found
    except TypeError as error:
        raise ConfigError("model", name, f"{valid} ({error})") from None
    if not isinstance(module, nn.Module):
        raise ConfigError("model", name, f"{valid}; it is a {type(module).__name__}")
    return module


def moments(seconds: np.ndarray) -> dnn.Times:
    """Sample mean and covariance of times ``[passes, blocks]``, with the input before them."""
    blocks = seconds.shape[1]
    mean, covariance = np.zeros(blocks + 1), np.zeros((blocks + 1, blocks + 1))
    mean[1:] = seconds.mean(axis=0)
    covariance[1:, 1:] = np.cov(seconds, rowvar=False)
    return dnn.Times(mean, covariance)


def time_table(profile: dnn.Profile, times: dnn.Times) -> str:
    """The printed table, a line per block."""
    deviation = np.sqrt(np.diag(times.covariance_s2))
    lines = [
        [name, f"{flops * 1e-9:.4g}", f"{mean * 1e3:.4g}", f"{std * 1e3:.3g}", f"{rate * 1e-9:.4g}"]
        for name, flops, mean, std, rate in zip(
            profile.names[1:],
            profile.flops[1:],
            times.mean_s[1:],
            deviation[1:],
            profile.flops[1:] / times.mean_s[1:],
            strict=True,
        )
    ]
    header = ["block", "work [GFLOP]", "mean [ms]", "deviation [ms]", "speed [GFLOP/s]"]
    return tables.format_table(header, lines)


if __name__ == "__main__":
    main()
