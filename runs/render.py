"""``python -m runs.render checkpoint=DIR|baseline=NAME``: one episode as GIF or PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from agents import registry as agents_registry
from agents.learner import Policy, effective_env
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError
from runs import evaluate, figures, program
from runs.program import Config, check_integer

SIZE_IN, DPI = (9.0, 5.2), 100
LEAST_MS = 20  # viewers slow down what is shorter


def main(argv: list[str] | None = None) -> None:
    """The program."""
    program.run_program("render", run, argv)


def run(config: Config, folder: Path) -> None:
    """Draws an episode of a trained policy or of a baseline, frame by frame.

    The environment draws itself: it has a method ``draw(axes, state, params)``. It may have two
    more: ``event_states(state, action, params)``, the states up to and with the next decision, else
    there is one frame per decision; and ``frames_held(state, following, params)``, for how many
    frame times of 1/frames_per_s a state is shown before the following one (None: it is the last),
    so that the film follows the simulated time, else each is shown for one.
    """
    for name in ("max_frames", "frames_per_s"):
        check_integer(config, name)
    for name in ("episode_seed", "training_seed"):
        check_integer(config, name, low=0)
    if config["format"] not in ("gif", "png"):
        raise ConfigError("format", config["format"], "choose gif or png (the last frame)")
    check_choice(config)
    env, params, policy = chosen_policy(config)
    env = effective_env(env, policy)
    if not callable(getattr(env, "draw", None)):
        raise ConfigError("env", env.name, "it has no method draw(axes, state, params)")
    program.claim_folder(folder)
    program.write_records(folder, config)
    states = episode_states(env, params, policy, config["episode_seed"], config["max_frames"])
    path = folder / "figures" / f"episode.{config['format']}"
    title = f"{env.name}: {config['baseline'] or 'policy of ' + str(config['checkpoint'])}"
    draw_episode(env, params, states, path, config["frames_per_s"], title)
    print(f"{len(states)} frames written to {path}")


def check_choice(config: Config) -> None:
    """Refuses neither, or both, of a checkpoint and a baseline."""
    if (config["checkpoint"] is None) == (config["baseline"] is None):
        given = config["checkpoint"] or config["baseline"]
        raise ConfigError("checkpoint", given, "give either checkpoint=DIR or baseline=NAME")


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
    """The states to draw of one episode from its first decision on, at most ``max_frames``."""
    key_episode, key_policy = jax.random.split(jax.random.key(seed))

    @jax.jit
    def step(carry: Any, key: jax.Array, observation: Any, state: Any) -> tuple[Any, ...]:
        mask = env.action_mask(state, params)
        action, carry = policy.act(carry, key, observation, mask, state, params)
        observation, state, _, terminated, truncated, _ = env.transition(state, action, params)
        return carry, action, observation, state, terminated | truncated

    observation, state = jax.jit(env.reset)(key_episode, params)
    carry = policy.init(key_policy, env, params)
    states, done, decisions = [state], False, 0
    while not done and len(states) < max_frames:
        key = jax.random.fold_in(key_policy, decisions)
        before = state
        carry, action, observation, state, done = step(carry, key, observation, state)
        decisions += 1
        if hasattr(env, "event_states"):
            states += env.event_states(before, action, params)
        else:
            states.append(state)
    return states[:max_frames]


def draw_episode(
    env: Any, params: Any, states: list[Any], path: Path, frames_per_s: int, title: str
) -> None:
    """Writes frames as a GIF, or the last one as a PNG, by the suffix of ``path``.

    All frames of a GIF share one palette, so a colour means the same from the first to the last.
    """
    figure, (axes,) = figures.new_figure(1, size=SIZE_IN)
    figure.set_dpi(DPI)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        env.draw(axes, states[-1], params)
        figures.save_figure(figure, path)
        return

    def picture(state: Any) -> np.ndarray:
        axes.clear()
        env.draw(axes, state, params)
        figure.canvas.draw()
        return np.array(figure.canvas.buffer_rgba())[..., :3]

    sample = [states[i] for i in np.unique(np.linspace(0, len(states) - 1, 8).astype(int))]
    palette = common_palette([picture(state) for state in sample])
    shown = [with_palette(picture(state), palette) for state in tqdm(states, unit="frame")]
    held = [1.0] * len(states)
    if hasattr(env, "frames_held"):
        following = [*states[1:], None]
        held = [env.frames_held(*pair, params) for pair in zip(states, following, strict=True)]
    shown[0].save(
        path,
        save_all=True,
        append_images=shown[1:],
        duration=[max(round(count * 1000 / frames_per_s), LEAST_MS) for count in held],
        loop=0,
        optimize=False,
    )


def common_palette(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """At most 256 colours ``uint8[n, 3]`` that serve all pictures ``uint8[height, width, 3]``.

    The most frequent colour first, then always the one whose pixels are the farthest off as yet
    (squared distance to the nearest chosen colour, times the number of pixels).
    """
    pixels = np.concatenate([picture.reshape(-1, 3) for picture in pictures])
    colours, counts = np.unique(_packed(pixels), return_counts=True)
    colours = _unpacked(colours).astype(np.int32)
    chosen = [int(np.argmax(counts))]
    off = np.full(len(colours), np.iinfo(np.int32).max)
    while len(chosen) < min(256, len(colours)):
        off = np.minimum(off, np.sum((colours - colours[chosen[-1]]) ** 2, axis=1))
        chosen.append(int(np.argmax(off * counts)))
    return colours[chosen].astype(np.uint8)


def with_palette(picture: np.ndarray, palette: np.ndarray) -> Any:
    """A picture ``uint8[height, width, 3]`` as an image of the palette's nearest colours."""
    from PIL import Image

    colours, where = np.unique(_packed(picture), return_inverse=True)
    gap = _unpacked(colours).astype(np.int32)[:, None] - palette.astype(np.int32)
    nearest = np.argmin(np.sum(gap**2, axis=-1), axis=-1).astype(np.uint8)
    image = Image.fromarray(nearest[where].reshape(picture.shape[:2]), "P")
    image.putpalette(palette.reshape(-1).tolist())
    return image


def _packed(colours: np.ndarray) -> np.ndarray:
    """Colours ``[..., 3]`` as one integer each."""
    return colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def _unpacked(packed: np.ndarray) -> np.ndarray:
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1)


if __name__ == "__main__":
    main()
