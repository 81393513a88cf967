"""Claims about what learning is worth where decisions see the present, and where they do not."""

from __future__ import annotations

import numpy as np

from runs.reproductions import Verdict
from runs.reproductions.judging import extent, slashed, verdict
from runs.reproductions.splitting.scenarios import EXPECTED, GUARDED, GUARDS, LEARNED
from runs.reproductions.splitting.training import Setting


def learning(now: Setting, late: Setting) -> list[Verdict]:
    """What learning is worth in each setting."""

    def saving(setting: Setting, policy: str) -> np.ndarray:
        return setting.median(policy, "energy_saving_pct")

    def figures(setting: Setting, policy: str) -> str:
        return (
            f"outage {slashed(setting.median(policy, 'outage'), 4)}, mean delay"
            f" {slashed(1e3 * setting.median(policy, 'mean_delay_s'))} ms"
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
            extent(now.median(LEARNED, "outage")),
            now.limits_met(LEARNED),
            figures(now, LEARNED),
        ),
        verdict(
            "present seen: the learner approaches drift plus penalty",
            "",
            "saves at most 1 point less",
            extent(own["now"]),
            gap <= 1,
            f"{slashed(own['now'])} % against {slashed(saving(now, 'DPP'))} %, bound"
            f" {now.dual.bound_pct:.2f} %",
        ),
        verdict(
            "seen late: the closed form on stale values keeps both limits",
            "",
            "mean delay 50 ms, outage 0.01",
            extent(late.median("DPP", "outage")),
            late.limits_met("DPP"),
            f"saves {slashed(saving(late, 'DPP'))} %; {figures(late, 'DPP')}; its queue of the"
            f" outage grows without end, to {slashed(late.median('DPP', 'h_final'), 0)}",
        ),
        verdict(
            "seen late: the learner keeps both limits",
            "",
            "mean delay 50 ms, outage 0.01, every training seed",
            extent(late.median(LEARNED, "outage")),
            late.limits_met(LEARNED),
            figures(late, LEARNED),
        ),
        verdict(
            "seen late: the learner saves more than the closed form with the best guard",
            "",
            "more than any guard on D_max that keeps both limits",
            extent(own["late"]),
            own["late"] > guarded.max(),
            f"{slashed(own['late'])} % against {guarded.max():.2f} % with guard {GUARDS[best]:g}",
        ),
        verdict(
            "seen late: the learner approaches the expectation by the known law",
            "",
            "saves at most 2 points less, without knowing the law",
            extent(own["late"]),
            behind <= 2,
            f"{slashed(own['late'])} % against {slashed(saving(late, EXPECTED))} %; the bound of"
            f" {late.dual.bound_pct:.2f} % sees the present, which neither does",
        ),
        verdict(
            "weak duality for every policy",
            "",
            "mean E >= G - z (D - D_avg) - eta (o - eps) on the bound's trace",
            extent(duality),
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
