"""Figures 1 to 3 of "Energy-efficient cooperative inference via adaptive deep neural network
splitting at the edge" (ICC 2023), the dual bound beside them, and the model's sensitivity.

    python -m runs.reproduce figure=splitting/fig2 scale=smoke
    python -m runs.reproduce figure=splitting/all scale=paper

    fig1         the network: work, energy and bits by splitting point
    fig2         saving, mean delay and outage over V, three availabilities
    fig3         splitting points over the availability, three path losses
    bound        drift plus penalty and the simple policies against the certified bound
    sensitivity  what the saving rests on: channel, input, energy model, board

Each figure is one call of `Splitting.simulate` per policy: all scenarios and seeds at once.
``paper`` takes 2e5 slots and 5 seeds and some minutes on 2 cores, ``smoke`` 2 seeds of 5e4 slots;
tables of expected values hold for ``paper``, so their tolerances are doubled in ``smoke``.
With ``env=splitting`` its settings replace the published scenario's. ``splitting/all`` is these
figures; ``splitting/learning``, SAC-Discrete on the splitting point at the rate of eq (19), trains
and must be named:

    now    independent slots that decisions see: drift plus penalty is nearly at the bound
    late   correlated fading and availability, seen one slot late: the closed form acts on stale
           values; what they are worth can be learned, or computed by who knows the law

The settings and the learner are those of ``experiment=splitting`` and ``splitting_late``. It trains
some ten minutes on 2 cores with ``smoke`` (3 seeds), so ``splitting/all`` leaves it out; ``paper``
trains 5 seeds three times as long and measures 2e5 slots. ``num_seeds`` and ``num_updates`` replace
the scale's; ``env=splitting`` and its settings those of both presets. Learned policies are measured
as all others, by `Splitting.simulate`: medians over trajectories, as one deep fade behind a late
decision can ruin any of them. The output folder gets ``learning/SETTING`` with the training run.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from agents.baselines import splitting as baselines
from jaxenv.errors import ConfigError
from jaxenv.splitting import rows
from runs.reproductions import Reproduction
from runs.reproductions.splitting import plots, scenarios
from runs.reproductions.splitting.claims import controllers
from runs.reproductions.splitting.claims import learning as claims
from runs.reproductions.splitting.measuring import (
    SHOWN,
    depthwise_counts,
    dual,
    measure,
    median_delay_s,
)
from runs.reproductions.splitting.training import Setting, run_setting
from runs.settings import Config


def fig1(config: Config) -> Reproduction:
    """Cumulative work, cumulative energy and size of the cut at every splitting point."""
    plan = scenarios.plan_of(config)
    costs = rows(plan.env.costs(plan.params))
    macs = np.asarray(costs.local_s, float) * float(plan.params.local_flops)
    macs = macs / float(plan.params.flops_per_mac)
    data = [
        {
            "split": k,
            "macs": float(f"{macs[k]:.7g}"),
            "energy_mj": 1e3 * float(costs.energy_j[k]),
            "cut_mbit": float(costs.bits[k]) / 1e6,
        }
        for k in range(plan.env.num_splits)
    ]
    cut = np.array([row["cut_mbit"] for row in data])
    return Reproduction(data, controllers.fig1(plan, macs, cut), plots.fig1(data))


def fig2(config: Config) -> Reproduction:
    """Saving, mean delay and outage over V at three availabilities, one call for all runs."""
    plan = scenarios.plan_of(config)
    env = plan.env
    grid = scenarios.product(
        availability_max=scenarios.AVAILABILITIES, tradeoff_v=scenarios.TRADEOFFS
    )
    shape = (plan.num_seeds, len(scenarios.AVAILABILITIES), len(scenarios.TRADEOFFS))
    own = measure(plan, baselines.DriftPlusPenalty(env), grid)
    dpp = {name: own[name].reshape(shape) for name in SHOWN}
    only = {"availability_max": scenarios.AVAILABILITIES}
    local = measure(plan, baselines.FullLocal(env), only)
    offload = measure(plan, baselines.FullOffload(env), only, plan.offload_seeds)
    medians = np.array(
        [median_delay_s(plan, baselines.FullOffload(env), a) for a in scenarios.AVAILABILITIES]
    )
    duals = [dual(plan, availability_max=a) for a in tqdm(scenarios.AVAILABILITIES, desc="bound")]
    bound = np.array([d.bound_pct for d in duals])
    data = []
    for i, availability in enumerate(scenarios.AVAILABILITIES):
        for j, v in enumerate(scenarios.TRADEOFFS):
            at = {name: values[:, i, j] for name, values in dpp.items()}
            data.append(_point("DPP", availability, v, at, bound[i]))
        for name, found in (("FullLocal", local), ("FullOffload", offload)):
            at = {metric: found[metric][:, i] for metric in SHOWN}
            data.append(_point(name, availability, None, at, bound[i]))
    return Reproduction(
        data,
        controllers.fig2(plan, dpp, offload, medians, duals),
        plots.fig2(dpp, offload, bound),
    )


def _point(
    policy: str, availability: float, v: float | None, at: dict[str, np.ndarray], bound: float
) -> dict[str, Any]:
    saving, delay, outage = (at[name] for name in SHOWN[:3])
    met = delay.mean() <= 0.05005 and outage.mean() <= 0.0101
    return {
        "policy": policy,
        "availability_max": availability,
        "tradeoff_v": v,
        "seeds": len(saving),
        "energy_saving_pct": saving.mean(),
        "saving_low": saving.min(),
        "saving_high": saving.max(),
        "mean_delay_ms": 1e3 * delay.mean(),
        "outage": outage.mean(),
        "limits_met": bool(met),
        "bound_pct": bound,
    }


def fig3(config: Config) -> Reproduction:
    """Mean and standard deviation of the splitting point over the availability at V = 3."""
    plan = scenarios.plan_of(config)
    grid = scenarios.product(
        path_loss_exponent=scenarios.PATH_LOSSES, availability_max=scenarios.LOW_AVAILABILITIES
    )
    found = measure(plan, baselines.DriftPlusPenalty(plan.env), grid)
    shape = (len(scenarios.PATH_LOSSES), len(scenarios.LOW_AVAILABILITIES))
    # At beta 4.7 one deep fade, met with empty queues, can ruin a run: medians over seeds.
    saving, mean, std = (
        np.median(found[name], axis=0).reshape(shape)
        for name in ("energy_saving_pct", "split_mean", "split_std")
    )
    share = found["split_hist"].mean(axis=1).reshape(-1, *shape)
    data = [
        {
            "path_loss_exponent": beta,
            "availability_max": availability,
            "seeds": plan.num_seeds,
            "energy_saving_pct": saving[i, j],
            "split_mean": mean[i, j],
            "split_std": std[i, j],
            "share_full_offload": share[0, i, j],
            "share_full_local": share[-1, i, j],
        }
        for i, beta in enumerate(scenarios.PATH_LOSSES)
        for j, availability in enumerate(scenarios.LOW_AVAILABILITIES)
    ]
    verdicts = controllers.fig3(plan, saving, mean, std, share)
    return Reproduction(data, verdicts, plots.fig3(mean, std))


def bound(config: Config) -> Reproduction:
    """The certified bound on each trace, drift plus penalty cold and warm, the simple policies."""
    plan = scenarios.plan_of(config)
    env = plan.env
    places = list(scenarios.TABLE_C)
    duals = [
        dual(plan, path_loss_exponent=beta, availability_max=availability)
        for beta, availability in tqdm(places, desc="bound")
    ]
    leaves = {
        "path_loss_exponent": [beta for beta, _ in places],
        "availability_max": [availability for _, availability in places],
    }
    warm = {
        "tradeoff_v": [30.0] * len(places),
        "z0": [30 * d.z for d in duals],
        "h0": [30 * d.eta for d in duals],
    }
    policies: dict[str, tuple[Any, dict[str, Any]]] = {
        "DPP": (baselines.DriftPlusPenalty(env), leaves),
        "DPPWarm, V = 30": (baselines.DriftPlusPenalty(env), leaves | warm),
        "DPPExact": (baselines.DriftPlusPenaltyExact(env), leaves),
        "CheapestAvg": (baselines.CheapestWithinDelay(env), leaves),
        "CheapestMax": (baselines.CheapestWithinDelay(env, "max"), leaves),
        "FullOffload": (baselines.FullOffload(env), leaves),
    }
    found = {
        name: measure(plan, policy, own, seeds=1)
        for name, (policy, own) in tqdm(policies.items(), desc="policies")
    }
    points = jnp.arange(env.num_splits, dtype=jnp.int32)
    best: dict[str, list[float]] = {name: [] for name in SHOWN}
    chosen = []
    for i in range(len(places)):
        own = {name: values[i] for name, values in leaves.items()}
        static = measure(plan, baselines.StaticSplit(env, points), own, seeds=1)
        met = (static["mean_delay_s"][0] <= 0.05) & (static["outage"][0] <= 0.01)
        chosen.append(int(np.argmax(np.where(met, static["energy_saving_pct"][0], -np.inf))))
        for name in best:
            best[name].append(static[name][0, chosen[-1]])
    found["BestStatic"] = {name: np.array([values]) for name, values in best.items()}
    data = [
        {
            "path_loss_exponent": beta,
            "availability_max": availability,
            "policy": name,
            "energy_saving_pct": own["energy_saving_pct"][0, i],
            "mean_delay_ms": 1e3 * own["mean_delay_s"][0, i],
            "outage": own["outage"][0, i],
            "bound_pct": duals[i].bound_pct,
            "certificate_gap_pp": duals[i].gap_pp,
            "price_delay_j_per_s": duals[i].z,
            "price_outage_j": duals[i].eta,
        }
        for i, (beta, availability) in enumerate(places)
        for name, own in found.items()
    ]
    limit = np.array([d.bound_pct for d in duals])
    verdicts = controllers.bound(plan, duals, found, chosen)
    return Reproduction(data, verdicts, plots.bound(found, limit))


def sensitivity(config: Config) -> Reproduction:
    """What the saving rests on, at V = 1: one scenario per change and availability."""
    plan = scenarios.plan_of(config)
    if plan.env.num_splits != 20:
        valid = "the sensitivity is that of the published network; leave it out"
        raise ConfigError("network", config["env"].get("network"), valid)
    if plan.env.num_slots > 60_000:
        env = dataclasses.replace(plan.env, num_slots=60_000, burn_in=10_000)
        plan = dataclasses.replace(plan, env=env)
    base = np.asarray(plan.params.macs_per_output, float)
    macs, per_output = depthwise_counts().T
    changes: dict[str, dict[str, Any]] = {
        "published": {},
        "fading mean 2": {"fading_mean": 2.0},
        "8-bit input": {"raw_bits": 8.0},
        "depthwise with one output": {"macs_per_output": base - per_output + macs},
        "depthwise without output term": {"macs_per_output": base - per_output},
        "44.3 GFLOP/s device": {"local_flops": 44.3e9},
        "44.3 GFLOP/s device, 0.7 TFLOP/s host": {"local_flops": 44.3e9, "remote_flops": 0.7e12},
    }
    swept = ("fading_mean", "raw_bits", "macs_per_output", "local_flops", "remote_flops")
    leaves = {
        name: np.stack(
            [
                change.get(name, np.asarray(getattr(plan.params, name)))
                for change in changes.values()
                for _ in scenarios.AVAILABILITIES
            ]
        )
        for name in swept
    }
    leaves["availability_max"] = np.tile(scenarios.AVAILABILITIES, len(changes))
    leaves["tradeoff_v"] = np.ones(len(leaves["availability_max"]))
    found = measure(plan, baselines.DriftPlusPenalty(plan.env), leaves, plan.sensitivity_seeds)
    shape = (len(changes), len(scenarios.AVAILABILITIES))
    # Where both queues are often empty one deep fade can ruin a whole run: medians over seeds.
    mean = {name: np.median(found[name], axis=0).reshape(shape) for name in (*SHOWN, "h_final")}
    data = [
        {
            "change": change,
            "availability_max": availability,
            "seeds": plan.sensitivity_seeds,
            "energy_saving_pct": mean["energy_saving_pct"][i, j],
            "worst_saving_pct": found["energy_saving_pct"].min(axis=0).reshape(shape)[i, j],
            "mean_delay_ms": 1e3 * mean["mean_delay_s"][i, j],
            "outage": mean["outage"][i, j],
            "h_final": mean["h_final"][i, j],
        }
        for i, change in enumerate(changes)
        for j, availability in enumerate(scenarios.AVAILABILITIES)
    ]
    saving, outage = mean["energy_saving_pct"], mean["outage"]
    verdicts = controllers.sensitivity(saving, outage, mean["h_final"])
    return Reproduction(data, verdicts, plots.sensitivity([*changes], saving, outage))


def learning(config: Config) -> Reproduction:
    """Both settings: trained, measured, judged, drawn."""
    found = {name: run_setting(config, name) for name in tqdm(scenarios.PRESETS, desc="settings")}
    rows = [row for name, setting in found.items() for row in rows_of(name, setting)]
    return Reproduction(rows, claims.learning(**found), plots.learning(found))


def rows_of(name: str, setting: Setting) -> list[dict[str, Any]]:
    """One row per policy and variant."""
    data = []
    for policy, metrics in setting.metrics.items():
        met = setting.limits_met(policy)
        for i in range(len(met)):
            saving = metrics["energy_saving_pct"][:, i]
            data.append(
                {
                    "setting": name,
                    "policy": policy,
                    "training_seed": i if policy == scenarios.LEARNED else None,
                    "guard": scenarios.GUARDS[i] if policy == scenarios.GUARDED else None,
                    "trajectories": len(saving),
                    "energy_saving_pct": np.median(saving),
                    "saving_low": saving.min(),
                    "saving_high": saving.max(),
                    "mean_delay_ms": 1e3 * setting.median(policy, "mean_delay_s")[i],
                    "outage": setting.median(policy, "outage")[i],
                    "limits_met": bool(met[i]),
                    "z_mean_s": setting.median(policy, "z_mean")[i],
                    "h_mean": setting.median(policy, "h_mean")[i],
                    "bound_pct": setting.dual.bound_pct,
                    "bound_gap_pp": setting.dual.gap_pp,
                }
            )
    return data
