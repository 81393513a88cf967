"""The learning view of the splitting system: SAC-Discrete on the splitting point, at the rate of
eq (19), against drift plus penalty and the certified bound.

    python -m runs.reproduce figure=splitting/learning

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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from agents.baselines import splitting as baselines
from agents.learner import Policy
from jaxenv import struct
from jaxenv.splitting import Splitting, simulated_metrics
from runs import tables
from runs.figures import new_figure
from runs.jobs import Job
from runs.policies import policies_of
from runs.reproductions import Reproduction, Verdict, output_folder, preset, trained, training_job
from runs.reproductions.splitting import COLOURS, simulate, text, verdict
from runs.settings import Config

PRESETS = {"now": "splitting", "late": "splitting_late"}
GUARDS = (0.8, 0.6, 0.5, 0.4, 0.35, 0.3, 0.25, 0.2)
TRAJECTORIES = 5
LEARNED = "SAC-Discrete"
EXPECTED = "DPP, law known"
GUARDED = "DPP, guarded"


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting, measured.

    metrics: of `simulated_metrics`, by policy ``[trajectories, variants]``; a variant is a training
    seed or a guard. progress: rows of ``progress.csv``. slack: how much wider than for 2e5 slots
    the limits are judged: what queues hold at the end shrinks with the length.
    """

    metrics: dict[str, dict[str, np.ndarray]]
    dual: baselines.DualSolution
    params: Any
    progress: list[dict[str, str]]
    slack: float

    def median(self, policy: str, name: str) -> np.ndarray:
        """A metric of every variant of a policy."""
        return np.median(self.metrics[policy][name], axis=0)

    def limits_met(self, policy: str) -> np.ndarray:
        """Whether each variant keeps both limits."""
        delay, outage = self.median(policy, "mean_delay_s"), self.median(policy, "outage")
        met = delay <= float(self.params.delay_avg_s) + 5e-5 * self.slack
        return met & (outage <= float(self.params.outage_eps) + 1e-4 * self.slack)


def learning(config: Config) -> Reproduction:
    """Both settings: trained, measured, judged, drawn."""
    found = {name: run_setting(config, name) for name in tqdm(PRESETS, desc="settings")}
    rows = [row for name, setting in found.items() for row in rows_of(name, setting)]
    return Reproduction(rows, judge(**found), draw(found))


# ---- training and measuring ---------------------------------------------------------------------


def job_of(config: Config, name: str, folder: Path) -> Job:
    """The training run of a setting."""
    own, paper = preset(PRESETS[name]), config["scale"] == "paper"
    env = config["env"] if config["env"].get("name") == "splitting" else {}
    agent = {k: v for k, v in config["agent"].items() if k != "schedule_updates"}
    lengths = {} if paper else {"num_slots": 100_000}
    updates = config.get("num_updates") or own["num_updates"] * (3 if paper else 1)
    return training_job(
        {
            "env": own["env"] | lengths | {k: v for k, v in env.items() if v is not None},
            "agent": own["agent"] | {k: v for k, v in agent.items() if v is not None},
            "num_updates": updates,
            "num_seeds": config.get("num_seeds") or (5 if paper else 3),
            "seed": config["seed"],
            "precision": config["precision"],
            "plugins": config.get("plugins", []),
            "checkpoint_episodes": config.get("eval_episodes") or 4,
            "eval_episodes": 1,
            "eval_seed": config.get("eval_seed", 0),
            "episodes_per_call": config.get("episodes_per_call") or 16,
            "scenario": name,
        },
        folder,
    )


def run_setting(config: Config, name: str) -> Setting:
    """Trains the learner, and simulates it and the controllers on the same slots."""
    with output_folder() as folder:
        job = job_of(config, name, Path(folder) / "learning" / name)
        states = trained([job])
        progress = tables.read_csv(job.folder / "progress.csv")
    env, params = job.env, job.params
    keys = jax.random.split(jax.random.key(config["seed"]), TRAJECTORIES)
    totals = {
        LEARNED: _simulate_learned(env, policies_of(job.learner, states), params, keys),
        "DPP": simulate(baselines.DriftPlusPenalty(env), params, keys),
        "CheapestAvg": simulate(baselines.CheapestWithinDelay(env), params, keys),
        "FullOffload": simulate(baselines.FullOffload(env), params, keys),
    }
    if env.observed == "late":
        guards = jnp.asarray(GUARDS, env.float_dtype)
        guarded = baselines.GuardedDriftPlusPenalty(env, guards)
        totals[GUARDED] = simulate(guarded, params, keys)
        totals[EXPECTED] = simulate(baselines.DriftPlusPenaltyExpected(env), params, keys)
    return Setting(
        metrics={policy: simulated_metrics(env, total) for policy, total in totals.items()},
        dual=baselines.solve_dual(env, params, keys[0]),
        params=params,
        progress=progress,
        slack=max(1.0, 200_000 / env.num_slots),
    )


@struct.dataclass
class Rule(baselines.SplittingPolicy):
    """A function ``(slot, costs, params) -> (split, nats)`` as a policy of `Splitting.simulate`."""

    function: Callable[..., Any] = struct.field(pytree_node=False)

    def decide(self, slot, costs, params):
        return self.function(slot, costs, params)


@partial(jax.jit, static_argnames="env")
def _simulate_learned(env: Splitting, policies: Policy, params: Any, keys: jax.Array) -> Any:
    """`Splitting.simulate` of learned policies, stacked over training seeds, as its scenarios."""

    def of_seed(policy: Policy) -> Any:
        def decide(slot, costs, params):
            observation = env.observation_of(slot, params)
            split, _ = policy.act((), None, observation, jnp.asarray(True), None, params)
            return split, env.closed_form_nats(slot, params)

        return jax.tree.map(lambda x: x[..., 0], env.simulate(Rule(env, decide), params, keys))

    return jax.vmap(of_seed, out_axes=-1)(policies)


# ---- rows, verdicts, figure ---------------------------------------------------------------------


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
                    "training_seed": i if policy == LEARNED else None,
                    "guard": GUARDS[i] if policy == GUARDED else None,
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


def judge(now: Setting, late: Setting) -> list[Verdict]:
    """What learning is worth in each setting."""

    def saving(setting: Setting, policy: str) -> np.ndarray:
        return setting.median(policy, "energy_saving_pct")

    def figures(setting: Setting, policy: str) -> str:
        return (
            f"outage {text(setting.median(policy, 'outage'), '{:.4f}')}, mean delay"
            f" {text(1e3 * setting.median(policy, 'mean_delay_s'))} ms"
        )

    own = {"now": saving(now, LEARNED), "late": saving(late, LEARNED)}
    gap = saving(now, "DPP") - own["now"]
    behind = saving(late, EXPECTED) - own["late"]
    allowed = late.limits_met(GUARDED)
    guarded = np.where(allowed, saving(late, GUARDED), 0.0)
    best = int(guarded.argmax())
    duality = np.concatenate([_duality_slack(setting) for setting in (now, late)])
    return [
        verdict(
            "present seen: the learner keeps both limits",
            "",
            "mean delay 50 ms, outage 0.01, every training seed",
            now.median(LEARNED, "outage"),
            now.limits_met(LEARNED),
            figures(now, LEARNED),
        ),
        verdict(
            "present seen: the learner approaches drift plus penalty",
            "",
            "saves at most 1 point less",
            own["now"],
            gap <= 1,
            f"{text(own['now'])} % against {text(saving(now, 'DPP'))} %, bound"
            f" {now.dual.bound_pct:.2f} %",
        ),
        verdict(
            "seen late: the closed form on stale values keeps both limits",
            "",
            "mean delay 50 ms, outage 0.01",
            late.median("DPP", "outage"),
            late.limits_met("DPP"),
            f"saves {text(saving(late, 'DPP'))} %; {figures(late, 'DPP')}; its queue of the outage"
            f" grows without end, to {text(late.median('DPP', 'h_final'), '{:.0f}')}",
        ),
        verdict(
            "seen late: the learner keeps both limits",
            "",
            "mean delay 50 ms, outage 0.01, every training seed",
            late.median(LEARNED, "outage"),
            late.limits_met(LEARNED),
            figures(late, LEARNED),
        ),
        verdict(
            "seen late: the learner saves more than the closed form with the best guard",
            "",
            "more than any guard on D_max that keeps both limits",
            own["late"],
            own["late"] > guarded.max(),
            f"{text(own['late'])} % against {guarded.max():.2f} % with guard {GUARDS[best]:g}",
        ),
        verdict(
            "seen late: the learner approaches the expectation by the known law",
            "",
            "saves at most 2 points less, without knowing the law",
            own["late"],
            behind <= 2,
            f"{text(own['late'])} % against {text(saving(late, EXPECTED))} %; the bound of"
            f" {late.dual.bound_pct:.2f} % sees the present, which neither does",
        ),
        verdict(
            "weak duality for every policy",
            "",
            "mean E >= G - z (D - D_avg) - eta (o - eps) on the bound's trace",
            duality,
            duality >= -1e-4,
        ),
    ]


def _duality_slack(setting: Setting) -> np.ndarray:
    """How far every policy is above what weak duality allows, J, on the first trajectory."""
    params, dual = setting.params, setting.dual
    return np.concatenate(
        [
            own["mean_energy_j"][0]
            - dual.value_j
            + dual.z * (own["mean_delay_s"][0] - float(params.delay_avg_s))
            + dual.eta * (own["outage"][0] - float(params.outage_eps))
            for own in setting.metrics.values()
        ]
    )


TITLES = {"now": "present seen", "late": "correlated, seen one slot late"}
MARKERS = {
    "CheapestAvg": ("^", COLOURS[3], 28),
    GUARDED: ("s", COLOURS[0], 12),
    "DPP": ("s", COLOURS[0], 45),
    EXPECTED: ("D", COLOURS[2], 45),
    LEARNED: ("o", COLOURS[1], 18),
}
REFERENCE = {"now": "DPP", "late": EXPECTED}


def draw(found: dict[str, Setting]) -> Any:
    """Saving against outage in both settings, filled where both limits are kept; then learning.

    Full offload, beyond an outage of 17 %, is left out.
    """
    figure, axes = new_figure(4, columns=2, size=(3.6, 2.7))
    for ax, (name, setting) in zip(axes[:2], found.items(), strict=True):
        _draw_policies(ax, setting)
        ax.annotate(
            "bound, sees the present" if name == "late" else "bound",
            (0.1, setting.dual.bound_pct),
            (0, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=7,
        )
        ax.set_ylim(top=setting.dual.bound_pct + 6)
        ax.set_xlabel("outage [%]; vertical: the limit")
        ax.set_ylabel("energy saving [%]")
        ax.set_title(TITLES[name], fontsize=9)
    inset = axes[0].inset_axes((0.3, 0.18, 0.5, 0.5))
    _draw_policies(inset, found["now"])
    limit = 100 * float(found["now"].params.outage_eps)
    inset.set_xlim(0.95 * limit, 1.05 * limit)
    inset.set_ylim(found["now"].dual.bound_pct - 1, found["now"].dual.bound_pct + 0.2)
    inset.tick_params(labelsize=6)
    axes[1].legend(frameon=False, fontsize=7, loc="lower right")
    for ax, metric, label in (
        (axes[2], "energy_saving", "energy saving [%]"),
        (axes[3], "outage", "outage [%]"),
    ):
        for colour, (name, setting) in zip(COLOURS, found.items(), strict=False):
            updates, curves = curves_of(setting.progress, metric)
            ax.plot(updates, curves.mean(axis=0), color=colour, label=TITLES[name])
            ax.fill_between(updates, *_range(curves), color=colour, alpha=0.2, linewidth=0)
        ax.set_xlabel("update")
        ax.set_ylabel(label)
    for colour, (name, setting) in zip(COLOURS, found.items(), strict=False):
        level = setting.median(REFERENCE[name], "energy_saving_pct")[0]
        axes[2].axhline(level, color=colour, linestyle=":", linewidth=1)
    axes[2].set_title("learning; dotted: DPP, DPP with the law", fontsize=9)
    axes[3].axhline(limit, color="grey", linewidth=0.8)
    axes[3].set_ylim(0.8 * limit, 1.4 * limit)
    axes[2].legend(frameon=False, fontsize=7, loc="lower right")
    return figure


def _draw_policies(ax: Any, setting: Setting) -> None:
    """Every policy in the plane of outage and saving, with the limit and the bound."""
    for policy, (marker, colour, size) in MARKERS.items():
        if policy not in setting.metrics:
            continue
        outage = 100 * setting.median(policy, "outage")
        saving = setting.median(policy, "energy_saving_pct")
        faces = [colour if met else "white" for met in setting.limits_met(policy)]
        if policy == GUARDED:
            ax.plot(outage, saving, color=colour, linewidth=0.8, linestyle=":", zorder=1)
        ax.scatter([], [], size, marker=marker, color=colour, label=policy)
        ax.scatter(outage, saving, size, c=faces, marker=marker, edgecolors=colour, zorder=2)
    ax.axhline(setting.dual.bound_pct, color="black", linestyle="--", linewidth=1)
    ax.axvline(100 * float(setting.params.outage_eps), color="grey", linewidth=0.8)


def curves_of(progress: list[dict[str, str]], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Updates, and a metric of the policy at each ``[training seeds, updates]``."""
    rows = [row for row in progress if row["metric"] == metric]
    updates = sorted({int(row["update"]) for row in rows})
    seeds = sorted({int(row["seed"]) for row in rows})
    found = {(int(row["seed"]), int(row["update"])): float(row["mean"]) for row in rows}
    return np.array(updates), np.array([[found[seed, u] for u in updates] for seed in seeds])


def _range(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return curves.min(axis=0), curves.max(axis=0)
