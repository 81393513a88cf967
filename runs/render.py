"""``python -m runs.render checkpoint=DIR|baseline=NAME``: one episode as GIF or PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from agents import registry as agents_registry
from agents.learner import Policy, effective_env
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError
from runs import evaluate, figures, program
from runs.program import Config, check_integer


def main(argv: list[str] | None = None) -> None:
    """The program."""
    program.run_program("render", run, argv)


def run(config: Config, folder: Path) -> None:
    """Draws an episode of a trained policy or of a baseline, frame by frame.

    The environment draws itself: it has a method ``draw(axes, state, params)``.
    """
    for name in ("max_frames", "frames_per_s"):
        check_integer(config, name)
    for name in ("episode_seed", "training_seed"):
        check_integer(config, name, low=0)
    if config["format"] not in ("gif", "png"):
        raise ConfigError("format", config["format"], "choose gif or png (the last frame)")
    if (config["checkpoint"] is None) == (config["baseline"] is None):
        given = config["checkpoint"] or config["baseline"]
        raise ConfigError("checkpoint", given, "give either checkpoint=DIR or baseline=NAME")
    env, params, policy = chosen_policy(config)
    env = effective_env(env, policy)
    if not callable(getattr(env, "draw", None)):
        raise ConfigError("env", env.name, "it has no method draw(axes, state, params)")
    program.claim_folder(folder)
    program.write_records(folder, config)
    states = episode_states(env, params, policy, config["episode_seed"], config["max_frames"])
    path = folder / "figures" / f"episode.{config['format']}"
    draw_episode(env, params, states, path, config["frames_per_s"])
    print(f"{len(states)} frames written to {path}")


def chosen_policy(config: Config) -> tuple[Environment, Any, Policy]:
    """``(env, params, policy)``: one training seed of a checkpoint, or a baseline."""
    if config["checkpoint"] is None:
        env, params = program.build_env(config)
        return env, params, agents_registry.baseline(config["baseline"], env)
    stored, config = evaluate.with_stored_env(config)
    seed = config["training_seed"]
    if seed >= stored["num_seeds"]:
        valid = f"the run has the seeds 0 to {stored['num_seeds'] - 1}"
        raise ConfigError("training_seed", seed, valid)
    env, params = program.build_env(config)
    policies = evaluate.stored_policy(config, stored, env, params)
    return env, params, jax.tree.map(lambda leaf: leaf[seed], policies)


def episode_states(
    env: Environment, params: Any, policy: Policy, seed: int, max_frames: int
) -> list[Any]:
    """The states of one episode from its first decision on, at most ``max_frames``."""
    key_episode, key_policy = jax.random.split(jax.random.key(seed))

    @jax.jit
    def step(carry: Any, key: jax.Array, observation: Any, state: Any) -> tuple[Any, ...]:
        mask = env.action_mask(state, params)
        action, carry = policy.act(carry, key, observation, mask, state, params)
        observation, state, _, terminated, truncated, _ = env.transition(state, action, params)
        return carry, observation, state, terminated | truncated

    observation, state = jax.jit(env.reset)(key_episode, params)
    carry = policy.init(key_policy, env, params)
    states, done = [state], False
    while not done and len(states) < max_frames:
        key = jax.random.fold_in(key_policy, len(states) - 1)
        carry, observation, state, done = step(carry, key, observation, state)
        states.append(state)
    return states


def draw_episode(env: Any, params: Any, states: list[Any], path: Path, frames_per_s: int) -> None:
    """Writes frames as a GIF, or the last one as a PNG, by the suffix of ``path``."""
    figure, (axes,) = figures.new_figure(1, size=(6.4, 3.6))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        env.draw(axes, states[-1], params)
        figures.save_figure(figure, path)
        return
    from matplotlib.animation import PillowWriter

    writer = PillowWriter(fps=frames_per_s)
    with writer.saving(figure, str(path), dpi=100):
        for state in tqdm(states, unit="frame"):
            axes.clear()
            env.draw(axes, state, params)
            writer.grab_frame()


if __name__ == "__main__":
    main()
