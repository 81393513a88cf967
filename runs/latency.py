"""How long a decision of an exported policy takes: ``python runs/latency.py FOLDER NUM_CALLS``.

It runs on one core, needs JAX alone, and prints one line of JSON. A call takes NumPy arrays of one
decision and returns a NumPy action.
"""

import json
import os
import sys
import time
from pathlib import Path

WARM_UP = 50


def main(folder: Path, num_calls: int) -> None:
    """Loads the artifact, calls it on random observations, prints the times in s."""
    pinned = hasattr(os, "sched_setaffinity")
    if pinned:  # before JAX starts its threads
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import jax
    import numpy as np

    schema = json.loads((folder / "policy.json").read_text())
    if schema["observation"]["dtype"] == "float64":
        jax.config.update("jax_enable_x64", True)
    exported = jax.export.deserialize(bytearray((folder / schema["artifact"]).read_bytes()))
    policy = jax.jit(exported.call)
    rng = np.random.default_rng(0)

    def zeros(aval, value):
        return np.full((1, *aval.shape[1:]), value, aval.dtype)

    avals = jax.tree.unflatten(exported.in_tree, exported.in_avals)[0]
    rest = [jax.tree.map(lambda aval: zeros(aval, 1), part) for part in avals[1:]]
    seconds = []
    for call in range(WARM_UP + num_calls):
        shape = (1, *avals[0].shape[1:])
        observation = rng.uniform(size=shape).astype(avals[0].dtype)
        began = time.perf_counter()
        jax.tree.map(np.asarray, policy(observation, *rest))
        if call >= WARM_UP:
            seconds.append(time.perf_counter() - began)
    median, p99 = np.quantile(seconds, [0.5, 0.99])
    print(json.dumps({"median_s": median, "p99_s": p99, "calls": num_calls, "pinned": pinned}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
