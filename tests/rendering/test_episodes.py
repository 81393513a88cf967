"""What the drawings of whole episodes show is what happened, up to the step shown."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import jaxenv
from agents.learner import RandomPolicy
from jaxenv.rendering.base import Step
from jaxenv.rendering.colours import COLOURS, luminance, text_on
from jaxenv.rendering.services import computing_s, layout
from runs import figures, render

STEPS, NOW = 6, 3


def drawn(name: str, **options):
    """An environment, its scenario, the steps of an episode and a figure of the first four."""
    env, params = jaxenv.make(name, **options)
    steps = [Step(*step) for step, _ in render.episode(env, params, RandomPolicy(), 1, STEPS)]
    figure, params = figures.blank_figure((8, 5)), jax.device_get(params)
    env.draw_episode(figure, steps, NOW, params)
    figure.canvas.draw()
    return env, params, steps, figure


def labelled(figure, label: str):
    (axes,) = (axes for axes in figure.axes if axes.get_ylabel() == label)
    return axes


def test_splitting_points_queues_and_delays():
    env, params, steps, figure = drawn("splitting")
    split = [int(step.action) for step in steps]
    line = labelled(figure, "splitting point").lines[0]
    np.testing.assert_array_equal(line.get_ydata(), split[: NOW + 1])
    for line, name in zip(labelled(figure, "queues").lines, ("z", "h"), strict=False):
        expected = [float(step.info[name]) for step in steps[: NOW + 1]]
        np.testing.assert_allclose(line.get_ydata(), expected)
    areas = labelled(figure, "delay [ms]").collections
    late = 1e3 * max(float(step.info["delay_s"]) for step in steps[: NOW + 1])
    assert max(area.get_paths()[0].vertices[:, 1].max() for area in areas) == pytest.approx(late)
    saved, full = (
        sum(float(step.info[f"{part}_energy_j"]) for step in steps[: NOW + 1])
        for part in ("saved", "full_local")
    )
    assert f"{100 * saved / full:.1f} % of the energy" in figure.get_suptitle()


@pytest.mark.quick
def test_partitioning_places_and_backlog():
    env, params, steps, figure = drawn("partitioning", num_blocks=3, num_servers=2)
    image = labelled(figure, "block").images[0].get_array()
    placement = np.array([step.action for step in steps]).T
    np.testing.assert_array_equal(image[:, : NOW + 1], placement[:, : NOW + 1])
    assert np.isnan(image.filled(np.nan)[:, NOW + 1 :]).all()
    backlog = np.array([step.state.backlog_s for step in steps])
    lines = labelled(figure, "backlog [s]").lines[:3]
    shown = np.stack([line.get_ydata() for line in lines], 1)
    np.testing.assert_allclose(shown, backlog[: NOW + 1])
    (note,) = (t.get_text() for t in figure.axes[0].texts if t.get_text().startswith("bars"))
    full_s = float(note.split()[-2])
    background = np.array([step.state.context.background_s for step in steps])
    most = max(backlog[:, 0].max(), (backlog[:, 1:] + background).max())
    assert most <= full_s < most + 1
    frames, bars, _ = np.array([bar.get_width() for bar in figure.axes[0].patches]).reshape(3, 3).T
    np.testing.assert_allclose(bars, frames * backlog[NOW] / full_s, rtol=1e-5)
    numbers = "".join(text.get_text() for text in figure.axes[0].texts if text.get_zorder() == 6)
    assert sorted(numbers.replace(" ", "").replace("\n", "")) == ["1", "2", "3"]


def test_services_load_and_rejections():
    env, params, steps, figure = drawn("services", num_agents=4)
    step = steps[NOW]
    slow = np.array(step.state.slot.system_tflop, float)
    for agent, (config, model, server) in enumerate(step.action):
        service = params.service[agent]
        if step.info["accepted"][agent]:
            work = params.model_tflop[service, model] * params.inferences[service, config]
            slow[server] += work
    slow /= params.compute_tflops
    np.testing.assert_allclose(computing_s(step, params), slow, rtol=1e-6)
    nodes = figure.axes[0].collections[0]
    np.testing.assert_allclose(nodes.get_array(), slow, rtol=1e-6)
    np.testing.assert_array_equal(nodes.get_offsets()[5], (402, 351))
    crosses = [c for c in figure.axes[0].collections if c.get_zorder() == 7]
    assert len(crosses) == 4 - int(np.sum(step.info["accepted"]))


@pytest.mark.quick
def test_an_unknown_network_is_laid_out_by_its_hops():
    """Four servers in a row: equal steps along one axis."""
    link = np.zeros((4, 4), np.float32)
    for i in range(3):
        link[i, i + 1] = link[i + 1, i] = 100
    place = layout(link)
    np.testing.assert_allclose(np.abs(np.diff(place[:, 0])), 1, atol=1e-4)
    np.testing.assert_allclose(place[:, 1], 0, atol=1e-3)


def test_robust_energies_and_deadlines():
    env, params, steps, figure = drawn("robust", max_devices=3)
    history = labelled(figure, "energy of all devices [J]").patches
    energy = [float(step.info["energy_j"]) for step in steps[: NOW + 1] if step.info["feasible"]]
    np.testing.assert_allclose([bar.get_height() for bar in history], energy)
    chosen = next((i for i, step in enumerate(steps) if step.info["feasible"]), None)
    if chosen is None:
        pytest.skip("no feasible instance was drawn")
    figure.clear()
    env.draw_episode(figure, steps, chosen, params)
    bars = labelled(figure, "energy [J]").patches
    total = sum(bar.get_height() for bar in bars)
    assert total == pytest.approx(float(steps[chosen].info["energy_j"]), rel=1e-5)
    used = labelled(figure, "time [ms]").patches
    height = np.array([bar.get_height() for bar in used]).reshape(4, 3).sum(axis=0)
    deadline = 1e3 * np.asarray(steps[chosen].state.instance.D)
    assert (height <= deadline * (1 + 1e-4)).all()


@pytest.mark.quick
def test_text_is_read_on_every_colour():
    """Contrast of WCAG 2.1; grey #767676 is known as the lightest with 4.5 to white."""
    assert (luminance("#000000"), luminance("#FFFFFF")) == (0, pytest.approx(1))
    assert luminance("#FF0000") == pytest.approx(0.2126)
    assert 1.05 / (luminance("#767676") + 0.05) == pytest.approx(4.54, abs=0.01)
    for colour in COLOURS:
        light, dark = sorted(luminance(c) + 0.05 for c in (colour, text_on(colour)))[::-1]
        assert light / dark >= 4.5
    assert (text_on("#F0E442"), text_on("#222222")) == ("#000000", "#FFFFFF")


def test_no_server_has_the_colour_of_the_device_and_numbers_are_read():
    env, params, steps, figure = drawn("partitioning", num_blocks=14, num_servers=12)
    colours = labelled(figure, "block").images[0].get_cmap().colors
    assert len(colours) == 13
    assert colours[0] not in colours[1:]
    assert len(set(colours)) == len(COLOURS)
    numbers = [text for text in figure.axes[0].texts if text.get_zorder() == 6]
    assert [text.get_color() for text in numbers] == [text_on(colour) for colour in colours]
