"""rejax trains PPO or DQN on ``vehicular`` or ``partitioning``, through the gymnax adapter.

rejax knows Discrete actions without masks: placements are chosen block by block
(``actions="sequential"``), and an invalid action becomes the next valid one (``repair=True``).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import measure
import rejax

import jaxenv
from jaxenv.adapters.gymnax import to_gymnax

# The marginal reward of `vehicular` pays a decision at once with all that it costs: discount 0. A
# placement is paid when its last block is chosen, and what it leaves behind is paid in later slots.
SYSTEMS = {
    "vehicular": {
        "options": {"reward_mode": "marginal"},
        "gamma": 0.0,
        "steps": 200_000,
        "ours": ("sac_discrete", 200, {"discount": 0.0, "lr": 3e-3}),
        "baselines": ("Local", "Edge", "Aware"),
    },
    "partitioning": {
        "options": {"observation": "compact"},
        "gamma": 0.95,
        "steps": 600_000,
        "ours": (
            "a3c",
            8000,
            {"synchronous": True, "trace_decay": 0.0, "lr": 2e-3, "entropy_weight": 0.01},
        ),
        "baselines": ("RPDI", "APDI", "GreedyEFT"),
    },
}
ALGORITHMS = {
    "ppo": {
        "num_envs": 64,
        "num_steps": 60,
        "num_minibatches": 8,
        "num_epochs": 4,
        "learning_rate": 1e-3,
        "max_grad_norm": 0.5,
        "ent_coef": 0.003,
    },
    "dqn": {
        "num_envs": 64,
        "buffer_size": 100_000,
        "fill_buffer": 4096,
        "batch_size": 256,
        "learning_rate": 1e-3,
        "exploration_fraction": 0.5,
        "target_update_freq": 2048,
        "polyak": 0.0,
    },
}


def main() -> None:
    parser = measure.arguments(__doc__)
    parser.add_argument("--env", choices=SYSTEMS, default="vehicular")
    parser.add_argument("--algorithm", choices=ALGORITHMS, default="ppo")
    given = parser.parse_args()
    system = SYSTEMS[given.env]
    env, params = jaxenv.make(given.env, **system["options"])
    adapted, adapted_params = to_gymnax(env, params, api="0.x", actions="sequential", repair=True)
    ours, updates, options = system["ours"]
    given.steps, given.ours = given.steps or system["steps"], given.ours or updates
    algorithm = rejax.get_algo(given.algorithm).create(
        env=adapted,
        env_params=adapted_params,
        total_timesteps=given.steps,
        eval_freq=given.steps,
        skip_initial_evaluation=True,
        gamma=system["gamma"],
        normalize_observations=True,
        normalize_rewards=True,
        reward_normalization_discount=system["gamma"],
        **ALGORITHMS[given.algorithm],
    )
    # rejax's own evaluation is replaced by ours, below.
    algorithm = algorithm.replace(eval_callback=lambda algorithm, state, rng: ())
    name = f"rejax_{given.algorithm}"
    key = jax.random.key(given.seed)
    state, _ = measure.timed(name, lambda: jax.jit(algorithm.train)(key))
    trained = "actor_ts" if given.algorithm == "ppo" else "q_ts"
    weights = {"params": getattr(state, trained).params, "scaling": state.obs_rms_state}

    def choose(weights: Any, key: jax.Array, observation: jax.Array, mask: Any) -> jax.Array:
        network = SimpleNamespace(params=weights["params"])
        view = SimpleNamespace(obs_rms_state=weights["scaling"], **{trained: network})
        return algorithm.make_act(view)(observation, key)

    learned = {name: measure.Foreign(measure.one_seed(weights), choose, adapted.env)}
    learned |= measure.train_ours(ours, env, params, given.ours, given.seed, **options)
    baselines, packages = system["baselines"], ("rejax", "gymnax")
    measure.report(given, f"{name}_{given.env}", env, params, learned, baselines, packages)


if __name__ == "__main__":
    main()
