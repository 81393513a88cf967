"""The film of an episode: which states it shows, for how long, and in which colours."""

import jax
import numpy as np
import pytest
from PIL import Image

import jaxenv
from jaxenv.errors import ConfigError
from jaxenv.vehicular import IDLE, LOCAL, NONE, SUCCESS, UPLOAD
from runs import render


@pytest.fixture(scope="module")
def film():
    """``(env, params, steps)``: of every decision the states shown and the state after it."""
    sizes = {"num_rsus": 2, "num_vehicles": 3, "max_steps": 12, "arrival_probability": 0.3}
    env, params = jaxenv.make("vehicular", speed_range_mps=(10, 40), radius_m=160.0, **sizes)
    transition, mask = jax.jit(env.transition), jax.jit(env.action_mask)
    _, state = jax.jit(env.reset)(jax.random.key(3), params)
    rng, steps, done = np.random.default_rng(0), [], False
    while not done:
        action = np.int32(rng.choice(np.flatnonzero(mask(state, params))))
        shown = env.event_states(state, action, params)
        _, state, _, _, done, info = transition(state, action, params)
        steps.append(jax.device_get((shown, state, info["finished"])))
    return env, params, steps


def test_the_states_of_a_film_lead_to_the_next_decision(film):
    env, _, steps = film
    for shown, state, _ in steps:
        last = shown[-1]
        for name in ("slot", "phase", "asking", "network", "fresh"):
            np.testing.assert_array_equal(
                getattr(last.progress, name), getattr(state.progress, name)
            )
        np.testing.assert_allclose(last.progress.tau, state.progress.tau, atol=1e-5)
        np.testing.assert_array_equal(last.totals.outcomes, state.totals.outcomes)
        assert last.vehicle == state.vehicle and last.decisions == state.decisions


def test_a_film_shows_every_upload_and_every_end_once(film):
    for shown, _, finished in film[2]:
        first = shown[0]
        j = int(np.argmax(first.tasks.decision))
        # The task just submitted is seen in its first phase, or failed on entry.
        assert first.progress.phase[j] in (IDLE, LOCAL, UPLOAD)
        assert first.totals.outcomes.sum() + (first.progress.phase > IDLE).sum() == (
            first.decisions
        )
        outcomes = np.array([s.progress.outcome for s in shown[1:]])
        assert (np.sum(outcomes > NONE, axis=0) == finished["mask"]).all()
        assert (np.any(outcomes == SUCCESS, axis=0) == finished["success"]).all()
    uploads = [(s.progress.phase == UPLOAD).any() for shown, _, _ in film[2] for s in shown]
    assert any(uploads)


def test_frames_follow_the_simulated_time(film):
    env, params, steps = film
    state = steps[0][1]

    def at(slot, tau, outcome=NONE):
        progress = state.progress
        progress = progress.replace(
            slot=np.int32(slot), tau=np.float32(tau), outcome=progress.outcome * 0 + outcome
        )
        return state.replace(progress=progress)

    def held(now, then):
        return env.frames_held(now, then, params)

    assert held(at(3, 0), at(4, 0)) == 2
    assert held(at(3, 0.25), at(4, 0)) == pytest.approx(1.5)
    assert held(at(3, 0), at(3, 0.125)) == held(at(3, 0), at(3, 0)) == 1
    assert held(at(3, 0), at(6, 0.5)) == pytest.approx(7)
    assert held(at(3, 0, SUCCESS), at(3, 0.125)) == 6
    assert held(at(3, 0), at(90, 0)) == held(at(3, 0), None) == 12


class Gradients:
    """Draws many colours, other ones in every state, and one that must not change."""

    def draw(self, axes, state, params):
        axes.imshow(np.random.default_rng(state).random((40, 40, 3)), aspect="auto")
        axes.plot([5, 35], [5, 35], color="#D55E00", linewidth=20)

    def frames_held(self, state, following, params):
        return 3.0 if following is None else 1.5


def test_all_frames_share_one_palette_and_keep_the_strong_colours(tmp_path):
    path = tmp_path / "film.gif"
    render.write_frames(render.state_frames(Gradients(), None, [0, 1, 2], "title"), path, 10)
    colours = set()
    with Image.open(path) as film:
        assert film.n_frames == 3
        for index in range(3):
            film.seek(index)
            assert film.info["duration"] == (300 if index == 2 else 150)
            frame = np.asarray(film.convert("RGB"))
            seen = {tuple(c) for c in np.unique(frame.reshape(-1, 3), axis=0).tolist()}
            assert (0xD5, 0x5E, 0x00) in seen and (255, 255, 255) in seen
            colours |= seen
    assert len(colours) <= 256


@pytest.mark.parametrize(
    ("script", "reason"), [("exit 1", "status 1"), ("echo no codec >&2; exit 3", "no codec")]
)
def test_an_ffmpeg_that_ends_early_is_told_in_one_line(tmp_path, script, reason):
    film = tmp_path / "ffmpeg"
    film.write_text(f"#!/bin/sh\n{script}\n")
    film.chmod(0o755)
    frames = render.state_frames(Gradients(), None, [0, 1, 2], "title")
    with pytest.raises(ConfigError, match=f"'mp4' is not valid; ffmpeg failed: {reason}"):
        render.write_frames(frames, tmp_path / "film.mp4", 10, str(film))


def test_a_palette_of_few_colours_is_exact():
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (200, 3), dtype=np.uint8)
    pictures = [colours[rng.integers(0, 200, (30, 40))] for _ in range(2)]
    palette = render.common_palette(pictures)
    for picture in pictures:
        image = render.with_palette(picture, palette)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), picture)
