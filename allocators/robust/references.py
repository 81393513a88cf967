"""What an answer is held against: exhaustive search, the worst case, simulated violations."""

import math
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from allocators.choices import check_choice
from allocators.robust.instance import MODELS, Calibration, Instance
from allocators.robust.links import curves, energy, links_of, take
from allocators.robust.optimum import Allocation, allocate, links_at
from allocators.robust.prices import equilibrium, first_guess, share_rest

Law = Literal["gauss", "lognormal", "gamma", "heavygamma", "twopoint"]


MAX_PARTITIONS = 200_000
PARTITIONS_AT_ONCE = 4096


@jax.jit
def exhaustive(inst: Instance) -> Allocation:
    """Optimum over all partitions by trying each: `M1^N` problems (23), for N up to 4 or 5.

    Raises:
        ValueError: more than `MAX_PARTITIONS` partitions.

    Source: problem (9).
    """
    num_devices, points = inst.c.shape
    if points**num_devices > MAX_PARTITIONS:
        raise ValueError(
            f"inst: {points}^{num_devices} partitions are not valid; "
            f"give at most {MAX_PARTITIONS} to exhaustive"
        )
    partitions = np.indices((points,) * num_devices).reshape(num_devices, -1)
    best = _cheapest(jax.lax.stop_gradient(inst), jnp.asarray(partitions, jnp.int32))
    return allocate(inst, best)


def _cheapest(inst: Instance, partitions: jax.Array) -> jax.Array:
    """The partition of least energy, int32 `[N]`, of those in `[N, count]`."""
    k = curves(links_of(inst), inst.B)
    num_devices, count = partitions.shape
    size = min(count, PARTITIONS_AT_ONCE)
    chunks = jnp.pad(partitions, ((0, 0), (0, -count % size)), mode="edge")

    def costs(m: jax.Array) -> jax.Array:
        chunk = take(jax.tree.map(lambda x: x[..., None], k), m)
        log_price, log_b, _ = equilibrium(chunk, inst.B, *first_guess(chunk, inst.B))
        spent = jnp.sum(energy(chunk.links, share_rest(chunk, inst.B, jnp.exp(log_b))), axis=0)
        return jnp.where(jnp.sum(chunk.bmin, axis=0) <= inst.B, spent, jnp.inf)

    chunks = jnp.moveaxis(chunks.reshape(num_devices, -1, size), 1, 0)
    return partitions[:, jnp.argmin(jax.lax.map(costs, chunks).reshape(-1)[:count])]


def worst_case(
    inst: Instance, K: ArrayLike | None = None, calibration: Calibration = "literal"
) -> Instance:
    """The instance of the worst-case policy: K standard deviations instead of sigma.

    It is the robust problem at `eps = 1 / (1 + K^2)`; `eps` itself is left as it is.

    Args:
        inst: the instance.
        K: standard deviations added to the mean times, scalar or `[N]`; by default those fitted to
            the paper's results, by model and calibration.
        calibration: that of the instance, for the default of K.
    """
    if K is None:
        fitted = [entry.worst_case_k[calibration] for entry in MODELS.values()]
        K = jnp.asarray(fitted, inst.sigma.dtype)[inst.model_id]
    return inst.replace(sigma=jnp.broadcast_to(jnp.asarray(K, inst.sigma.dtype), inst.sigma.shape))


def _sample(key: jax.Array, law: str, mean: jax.Array, std: jax.Array, num: int) -> jax.Array:
    """Times `[num, N]` of one part with a mean and a standard deviation `[N]`, s."""
    shape = (num, *mean.shape)
    random = std > 0
    std = jnp.where(random, std, 1)
    if law == "gauss":
        drawn = mean + std * jax.random.normal(key, shape, mean.dtype)
    elif law == "lognormal":
        log_mean = jnp.log(jnp.where(random, mean, 1))
        variance = jnp.log1p((std / jnp.exp(log_mean)) ** 2)
        normal = jax.random.normal(key, shape, mean.dtype)
        drawn = jnp.exp(log_mean - variance / 2 + jnp.sqrt(variance) * normal)
    elif law == "gamma":
        drawn = mean - std + std * jax.random.exponential(key, shape, mean.dtype)
    else:
        root = math.sqrt(HEAVY_SHAPE)
        gamma = jax.random.gamma(key, HEAVY_SHAPE, shape, mean.dtype)
        drawn = mean - std * root + gamma * std / root
    return jnp.where(random, drawn, mean)


HEAVY_SHAPE = 0.1
LAWS = get_args(Law)
SAMPLES_PER_CHUNK = 10_000


@partial(jax.jit, static_argnames=("law", "n_samples"))
def violation(
    key: jax.Array, inst: Instance, alloc: Allocation, law: Law, n_samples: int = 400_000
) -> jax.Array:
    """Simulated probability `[N]` that a device's inference takes longer than its deadline.

    The local time and that of the virtual machine are independent and follow one law with the
    instance's means and variances: normal; lognormal; "gamma", a shifted exponential; "heavygamma",
    a shifted gamma law of shape 0.1; "twopoint", the distribution of the sum that attains the
    bound eps of (18). Padded devices have 0.

    Raises:
        ValueError: unknown law.
    """
    check_choice(law, Law, "law")
    links = links_at(inst, alloc.m)
    chosen = take((inst.tvm, inst.vloc, inst.vvm), alloc.m)
    mean_vm, var_local, var_vm = (jnp.where(inst.mask_n, x, 0) for x in chosen)
    mean_local = links.c / alloc.f

    def lateness(key: jax.Array, num: int) -> jax.Array:
        if law == "twopoint":
            mean, variance = alloc.t_off + mean_local + mean_vm, var_local + var_vm
            above = jnp.maximum(inst.D - mean, 0) + 1e-6
            chance = variance / (variance + above**2)
            late = jax.random.uniform(key, (num, *mean.shape), mean.dtype) < chance
            return jnp.where(late, mean + above, mean - variance / above) - inst.D
        keys = jax.random.split(key)
        local = _sample(keys[0], law, mean_local, jnp.sqrt(var_local), num)
        return alloc.t_off + local + _sample(keys[1], law, mean_vm, jnp.sqrt(var_vm), num) - inst.D

    def count(total: jax.Array, chunk: jax.Array) -> tuple[jax.Array, None]:
        late = lateness(jax.random.fold_in(key, chunk), SAMPLES_PER_CHUNK) > 0
        left = n_samples - chunk * SAMPLES_PER_CHUNK
        counted = jnp.arange(SAMPLES_PER_CHUNK)[:, None] < left
        return total + jnp.sum(late & counted, axis=0, dtype=jnp.int32), None

    chunks = jnp.arange(-(-n_samples // SAMPLES_PER_CHUNK))
    total, _ = jax.lax.scan(count, jnp.zeros(inst.D.shape, jnp.int32), chunks)
    return jnp.where(inst.mask_n, total / n_samples, 0).astype(inst.D.dtype)
