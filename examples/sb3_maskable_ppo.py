"""Stable-Baselines3 (sb3-contrib) trains MaskablePPO on ``vehicular``, through the SB3 adapter."""

from __future__ import annotations

import jax.numpy as jnp
import measure
import numpy as np
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import VecNormalize

import jaxenv
from jaxenv.adapters.sb3 import to_sb3


def main() -> None:
    given = measure.arguments(__doc__, steps=200_000, ours=200).parse_args()
    env, params = jaxenv.make("vehicular", reward_mode="marginal")
    venv = VecNormalize(to_sb3(env, params, num_envs=256), gamma=0.0)
    venv.seed(given.seed)
    model = MaskablePPO(
        "MlpPolicy",
        venv,
        n_steps=16,
        batch_size=1024,
        n_epochs=4,
        learning_rate=1e-3,
        gamma=0.0,
        gae_lambda=0.0,
        ent_coef=0.003,
        seed=given.seed,
        device="cpu",
    )
    measure.timed("MaskablePPO", lambda: model.learn(given.steps) and None)

    def choose(observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        observations = venv.normalize_obs(observations)
        return model.predict(observations, action_masks=masks, deterministic=True)[0]

    learned = {"MaskablePPO": measure.OnHost(jnp.asarray([given.seed]), choose)}
    learned |= measure.train_ours(
        "sac_discrete", env, params, given.ours, given.seed, discount=0.0, lr=3e-3
    )
    baselines = ("Local", "Edge", "Aware")
    packages = ("stable-baselines3", "sb3-contrib", "torch", "gymnasium")
    measure.report(given, "sb3_maskable_ppo", env, params, learned, baselines, packages)


if __name__ == "__main__":
    main()
