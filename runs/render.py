"""``python -m runs.render checkpoint=DIR|baseline=NAME``: one episode as GIF, MP4 or PNG."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from agents.learner import Policy, effective_env
from jaxenv.environment import Environment
from jaxenv.errors import ConfigError
from jaxenv.rendering.base import Step, headline
from runs import figures, program
from runs.folders import claim_folder, write_records
from runs.policies import check_choice, chosen_policy
from runs.settings import Config, check_integer

FORMATS = ("gif", "mp4", "png")
SIZE_IN, HISTORY_SIZE_IN, DPI = (9.0, 5.2), (10.0, 6.4), 100
LEAST_MS = 20  # viewers slow down what is shorter
MOST_PER_S = 60


def main(argv: list[str] | None = None) -> None:
    """The program."""
    program.run_program("render", run, argv)


def run(config: Config, folder: Path) -> None:
    """Draws an episode of a trained policy or of a baseline.

    The environment draws itself, in one of two ways.

    ``draw_episode(figure, steps, now, params)`` draws the episode (`jaxenv.rendering.base.Step`) up
    to step ``now`` into an empty figure; a PNG is its last step, a film has a frame per step.

    ``draw(axes, state, params)`` draws one state; a PNG is the last one. It may come with two more:
    ``event_states(state, action, params)``, the states up to and with the next decision, else there
    is one frame per decision; and ``frames_held(state, following, params)``, for how many frame
    times of 1/frames_per_s a state is shown before the following one (None: it is the last), so
    that the film follows the simulated time, else each is shown for one.
    """
    for name in ("max_frames", "frames_per_s"):
        check_integer(config, name)
    for name in ("episode_seed", "training_seed"):
        check_integer(config, name, low=0)
    if config["format"] not in FORMATS:
        raise ConfigError("format", config["format"], "choose gif, mp4 or png (the last frame)")
    check_choice(config)
    env, params, policy = chosen_policy(config)
    env = effective_env(env, policy)
    if not callable(getattr(env, "draw", None) or getattr(env, "draw_episode", None)):
        raise ConfigError("env", env.name, "it has no method draw(axes, state, params)")
    film = ffmpeg() if config["format"] == "mp4" else None
    claim_folder(folder)
    write_records(folder, config)
    path = folder / "figures" / f"episode.{config['format']}"
    name = config["baseline"] or f"policy of {config['checkpoint']}"
    frames = frames_of(env, params, policy, config["episode_seed"], config["max_frames"], name)
    write_frames(frames, path, config["frames_per_s"], film)
    count = len(frames.held)
    what = f"the last of {count} frames" if config["format"] == "png" else f"{count} frames"
    print(f"{what} written to {path}")


class Frames(NamedTuple):
    """What is to be drawn. held: for how many frame times each frame is shown."""

    figure: Any
    draw: Callable[[int], None]
    held: list[float]


def frames_of(
    env: Any, params: Any, policy: Policy, seed: int, max_frames: int, name: str
) -> Frames:
    """At most ``max_frames`` frames of one episode, from its first decision on.

    name: of the policy, for the title.
    """
    if not callable(getattr(env, "draw_episode", None)):
        states = episode_states(env, params, policy, seed, max_frames)
        return state_frames(env, params, states, f"{env.name}: {name}")
    played = episode(env, params, policy, seed, max_frames)
    total = min(max_frames, int(params.max_steps))
    steps = [Step(*step) for step, _ in tqdm(played, total=total, unit="step")]
    figure, plain = figures.blank_figure(HISTORY_SIZE_IN), jax.device_get(params)

    def draw(now: int) -> None:
        figure.clear()
        env.draw_episode(figure, steps, now, plain)
        headline(figure, f"{name} in {figure.get_suptitle()}")

    return Frames(figure, draw, [1.0] * len(steps))


def state_frames(env: Any, params: Any, states: Sequence[Any], title: str) -> Frames:
    """A frame per state, of an environment that draws states."""
    figure, (axes,) = figures.new_figure(1, size=SIZE_IN)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")

    def draw(now: int) -> None:
        axes.clear()
        env.draw(axes, states[now], params)

    held = [1.0] * len(states)
    if hasattr(env, "frames_held"):
        following = [*states[1:], None]
        held = [env.frames_held(*pair, params) for pair in zip(states, following, strict=True)]
    return Frames(figure, draw, held)


def episode(
    env: Environment, params: Any, policy: Policy, seed: int, max_steps: int
) -> Iterator[tuple[tuple[Any, Any, dict[str, Any]], Any]]:
    """``((state, action, info), following state)`` of the first steps of one episode."""
    key_episode, key_policy = jax.random.split(jax.random.key(seed))

    @jax.jit
    def step(carry: Any, key: jax.Array, observation: Any, state: Any) -> tuple[Any, ...]:
        mask = env.action_mask(state, params)
        action, carry = policy.act(carry, key, observation, mask, state, params)
        observation, state, _, terminated, truncated, info = env.transition(state, action, params)
        return carry, action, observation, state, terminated | truncated, info

    observation, state = jax.jit(env.reset)(key_episode, params)
    carry = policy.init(key_policy, env, params)
    for decision in range(max_steps):
        key = jax.random.fold_in(key_policy, decision)
        before = state
        carry, action, observation, state, done, info = step(carry, key, observation, state)
        yield jax.device_get((before, action, info)), state
        if done:
            return


def episode_states(
    env: Environment, params: Any, policy: Policy, seed: int, max_frames: int
) -> list[Any]:
    """The states to draw of one episode from its first decision on, at most ``max_frames``."""
    states: list[Any] = []
    for (before, action, _), following in episode(env, params, policy, seed, max_frames):
        states = states or [before]
        if len(states) >= max_frames:
            break
        if hasattr(env, "event_states"):
            states += env.event_states(before, action, params)
        else:
            states.append(following)
    return states[:max_frames]


def write_frames(frames: Frames, path: Path, frames_per_s: int, film: str | None = None) -> None:
    """Writes frames as a GIF or an MP4, or the last one as a PNG, by the suffix of ``path``.

    All frames of a GIF share one palette, so a colour means the same from the first to the last.
    film: the path of ffmpeg, for an MP4.
    """
    figure, count = frames.figure, len(frames.held)
    path.parent.mkdir(parents=True, exist_ok=True)
    with figures.style():
        if path.suffix == ".png":
            frames.draw(count - 1)
            figures.save_figure(figure, path)
            return
        figure.set_dpi(DPI)

        def picture(index: int) -> np.ndarray:
            frames.draw(index)
            figure.canvas.draw()
            return np.array(figure.canvas.buffer_rgba())[..., :3]

        bar = tqdm(range(count), unit="frame")
        if path.suffix == ".mp4":
            _write_mp4((picture(index) for index in bar), frames.held, path, frames_per_s, film)
            return
        sample = np.unique(np.linspace(0, count - 1, 8).astype(int))
        palette = common_palette([picture(index) for index in sample])
        shown = [with_palette(picture(index), palette) for index in bar]
    shown[0].save(
        path,
        save_all=True,
        append_images=shown[1:],
        duration=[max(round(held * 1000 / frames_per_s), LEAST_MS) for held in frames.held],
        loop=0,
        optimize=False,
    )


def ffmpeg() -> str:
    """The path of ffmpeg: of the package imageio-ffmpeg, else the system's."""
    if importlib.util.find_spec("imageio_ffmpeg") is not None:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    found = shutil.which("ffmpeg")
    if found is None:
        raise ConfigError("format", "mp4", "it needs ffmpeg: pip install 'jaxenv[video]'")
    return found


def _write_mp4(
    pictures: Iterator[np.ndarray], held: Sequence[float], path: Path, frames_per_s: int, film: str
) -> None:
    """H.264 at a rate at which the shortest frame is one; others are repeated."""
    shortest = min(held)
    first = next(pictures)
    height, width = (size - size % 2 for size in first.shape[:2])
    rate = min(frames_per_s / shortest, MOST_PER_S)
    command = [
        *(film, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"),
        *("-s", f"{width}x{height}", "-r", f"{rate:g}", "-i", "-", "-an"),
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "18", str(path)),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        with contextlib.suppress(BrokenPipeError):  # it has ended, and its status tells why
            for picture, times in zip(itertools.chain([first], pictures), held, strict=True):
                data = np.ascontiguousarray(picture[:height, :width]).tobytes()
                for _ in range(max(round(times * rate / frames_per_s), 1)):
                    process.stdin.write(data)
        _, message = process.communicate()
    if process.returncode:
        reason = message.decode()[:200] or f"status {process.returncode}"
        raise ConfigError("format", "mp4", f"ffmpeg failed: {reason}")


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
