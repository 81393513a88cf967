"""What the drawings of whole episodes show is what happened, up to the step shown."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from matplotlib.colors import to_rgba

import jaxenv
from agents.learner import RandomPolicy
from allocators import robust
from jaxenv.rendering.base import Step
from jaxenv.rendering.colours import BLUE, COLOURS, luminance, text_on
from jaxenv.rendering.services import computing_s, layout
from runs import figures, render

STEPS, NOW = 6, 3
COUNT = np.arange(1.0, STEPS + 1)  # 1 to 4 up to the step shown: 10 in sum, 2.5 in the mean


def drawn(name: str, **options):
    """An environment, its scenario, the steps of an episode and a figure of the first four."""
    env, params = jaxenv.make(name, **options)
    steps = [Step(*step) for step, _ in render.episode(env, params, RandomPolicy(), 1, STEPS)]
    figure, params = figures.blank_figure((8, 5)), jax.device_get(params)
    env.draw_episode(figure, steps, NOW, params)
    figure.canvas.draw()
    return env, params, steps, figure


def redrawn(env, params, steps, now: int = NOW, **known):
    """The figure of an episode in which some of the steps' ``info`` is known."""
    told = ({name: value[i] for name, value in known.items()} for i in range(len(steps)))
    steps = [step._replace(info=step.info | own) for step, own in zip(steps, told, strict=True)]
    figure = figures.blank_figure((8, 5))
    env.draw_episode(figure, steps, now, params)
    figure.canvas.draw()
    return figure


def named(axes):
    """What is drawn, by its label in the legend that is shown."""
    handles, labels = axes.get_legend_handles_labels()
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert shown == labels
    return dict(zip(labels, handles, strict=True))


def thickness(area) -> np.ndarray:
    """Of an area of steps, at 0 to ``NOW``."""
    ends = area.get_paths()[0].vertices
    x, y, following = ends[:-1, 0], ends[:-1, 1], ends[1:, 0]
    inside = np.clip(np.arange(NOW + 1), 0.1, NOW - 0.1)[:, None]
    crosses = (np.minimum(x, following) < inside) & (inside < np.maximum(x, following))
    return np.array([np.ptp(y[row]) for row in crosses])


def heights(bars) -> np.ndarray:
    return np.array([bar.get_height() for bar in bars])


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
def test_splitting_legends_name_their_series():
    env, params, steps, _ = drawn("splitting")
    known = {
        **{
            "local_delay_s": 1e-3 * COUNT,
            "tx_delay_s": 2e-3 * COUNT,
            "remote_delay_s": 3e-3 * COUNT,
        },
        **{"local_energy_j": COUNT, "tx_energy_j": COUNT / 2, "z": COUNT / 10, "h": COUNT / 5},
        **{"saved_energy_j": COUNT, "full_local_energy_j": 4 * COUNT},
        "outage": np.array([1.0, 0, 0, 0, 1, 1]),
    }
    figure = redrawn(env, params, steps, **known)
    shown = COUNT[: NOW + 1]
    delays = named(labelled(figure, "delay [ms]"))
    for name, factor in (("device", 1), ("sending", 2), ("host", 3)):
        np.testing.assert_allclose(thickness(delays[name]), factor * shown)
    assert delays["limit"].get_ydata()[0] == pytest.approx(1e3 * params.delay_max_s)
    assert delays["limit of the mean"].get_ydata()[0] == pytest.approx(1e3 * params.delay_avg_s)
    energies = named(labelled(figure, "energy [J]"))
    np.testing.assert_allclose(thickness(energies["computing"]), shown)
    np.testing.assert_allclose(thickness(energies["sending"]), shown / 2)
    queues = named(labelled(figure, "queues"))
    np.testing.assert_allclose(queues["Z, mean delay [s]"].get_ydata(), shown / 10)
    np.testing.assert_allclose(queues["H, outage"].get_ydata(), shown / 5)
    level = labelled(figure, "fading [dB]").lines[0].get_ydata()
    context = [step.state.context for step in steps[: NOW + 1]]
    np.testing.assert_allclose(10 ** (level / 10), [float(c.fading) for c in context])
    free = labelled(figure, "host free").lines[0].get_ydata()
    np.testing.assert_allclose(free, [float(params.availability_max * c.share) for c in context])
    texts = {t.get_text(): t.get_position()[1] for t in labelled(figure, "splitting point").texts}
    assert texts == {"all at the host": 0, "all on the device": env.num_splits - 1}
    expected = "splitting, 4 slots: 25.0 % of the energy saved, mean delay 15.0 ms, 25.00 % late"
    assert figure.get_suptitle() == expected


@pytest.mark.quick
def test_partitioning_legends_name_their_series():
    env, params, steps, _ = drawn("partitioning", num_blocks=3, num_servers=2)
    backlog = COUNT[:, None] * [1.0, 2.0, 4.0]
    steps = [
        step._replace(state=step.state.replace(backlog_s=own))
        for step, own in zip(steps, backlog, strict=True)
    ]
    figure = redrawn(
        *(env, params, steps),
        transfer_s=COUNT,
        wait_s=2 * COUNT,
        compute_s=3 * COUNT,
        total_delay_s=6 * COUNT,
        energy_j=10 * COUNT,
        penalty_s=COUNT,
    )
    delays = named(labelled(figure, "delay of the batch [s]"))
    for name, factor in (("transfer", 1), ("waiting", 2), ("computing", 3)):
        np.testing.assert_allclose(thickness(delays[name]), factor * COUNT[: NOW + 1])
    places = named(labelled(figure, "backlog [s]"))
    assert list(places) == ["device", "server 1", "server 2"]
    shades = labelled(figure, "block").images[0].get_cmap().colors
    for place, line in enumerate(places.values()):
        np.testing.assert_allclose(line.get_ydata(), backlog[: NOW + 1, place])
        assert line.get_color() == shades[place]
    rates = [t.get_text() for t in figure.axes[0].texts if t.get_zorder() == 5.5]
    rate = np.asarray(steps[NOW].state.context.rate_bps)
    assert rates == [f"{value / 1e6:.1f} Mbit/s" for value in rate]
    tasks = int(steps[NOW].state.context.num_tasks)
    assert figure.axes[0].get_title(loc="left") == f"slot {NOW}: {tasks} images, delay 24.0 s"
    expected = "mean delay 15.0 s, mean excess over tolerated delays 2.5 s, 100 J spent"
    assert figure.get_suptitle() == f"partitioning, 4 slots: {expected}"


def test_services_legends_name_their_series():
    env, params, steps, _ = drawn("services", num_agents=4)
    late, full = np.zeros((2, STEPS, 4), bool)
    late[:, :2], full[:2, 3] = True, True  # 10 of 16 requests are rejected
    figure = redrawn(
        *(env, params, steps),
        reward_parts=COUNT[:, None] * [1.0, -2.0, -3.0],
        late=late,
        memory_reject=full,
        accepted=~(late | full),
        delay_s=np.tile([1.0, 2.0, 3.0, 4.0], (STEPS, 1)),
    )
    parts = named(labelled(figure, "reward parts"))
    for name, factor in (("accuracy", 1), ("minus delay", -2), ("minus cost", -3)):
        np.testing.assert_allclose(parts[name].get_ydata(), factor * COUNT[: NOW + 1])
    rejected = named(labelled(figure, "rejected requests"))
    np.testing.assert_array_equal(thickness(rejected["too late"]), 2)
    np.testing.assert_array_equal(thickness(rejected["no memory"]), [1, 1, 0, 0])
    delay = labelled(figure, "mean delay [s]").lines[0]
    np.testing.assert_allclose(delay.get_ydata(), [3, 3, 3.5, 3.5])
    graph = figure.axes[0]
    legend = graph.get_legend()
    colours = {
        text.get_text(): line.get_color()
        for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    requests = [c for c in graph.collections if c.get_zorder() == 6]
    for service, request in zip(np.asarray(params.service), requests, strict=True):
        colour = colours[env.service_names[service]]
        np.testing.assert_array_equal(request.get_facecolor()[0], to_rgba(colour))
    crosses = [c for c in graph.collections if c.get_zorder() == 7]
    assert len(crosses) == 2
    for cross, request in zip(crosses, requests[:2], strict=True):
        np.testing.assert_array_equal(cross.get_edgecolor()[0], to_rgba(colours["rejected"]))
        np.testing.assert_array_equal(cross.get_offsets(), request.get_offsets())
    assert graph.get_title(loc="left") == f"slot {NOW}: 2 of 4 requests accepted"
    expected = "services, 4 slots: mean reward -10.00, 62.5 % of the requests rejected"
    assert figure.get_suptitle() == expected


def test_robust_legends_name_their_series():
    env, params, steps, figure = drawn("robust", max_devices=3)
    history = named(labelled(figure, "energy of all devices [J]"))
    energy = [float(step.info["energy_j"]) for step in steps[: NOW + 1] if step.info["feasible"]]
    lost = [i for i, step in enumerate(steps[: NOW + 1]) if not step.info["feasible"]]
    assert energy and lost
    np.testing.assert_allclose(heights(history["energy"]), energy)
    np.testing.assert_array_equal(history["infeasible"].get_offsets()[:, 0], lost)
    assert not history["infeasible"].get_offsets()[:, 1].any()
    chosen = 1
    assert steps[chosen].info["feasible"]
    figure = redrawn(env, params, steps, chosen, lower_bound_j=COUNT / 100)
    bound = named(labelled(figure, "energy of all devices [J]"))["lower bound"]
    np.testing.assert_allclose(bound.get_offsets(), [[0, 0.01], [1, 0.02]])
    inst, point = steps[chosen].state.instance, np.asarray(steps[chosen].action)
    best, row = jax.device_get(robust.allocate(inst, point, env.allocator)), (range(3), point)
    times = named(labelled(figure, "time [ms]"))
    expected = {
        "device, mean": inst.c[row] / best.f,
        "sending": best.t_off,
        "host, mean": inst.tvm[row],
        "margin": inst.sigma * np.sqrt(inst.vloc[row] + inst.vvm[row]),
    }
    assert set(times) == {*expected, "deadline"}
    for name, time_s in expected.items():
        np.testing.assert_allclose(heights(times[name]), 1e3 * time_s, rtol=1e-5, atol=1e-12)
    ends = np.array(times["deadline"].get_segments())
    np.testing.assert_allclose(ends[:, :, 1], 1e3 * np.stack([inst.D, inst.D], 1), rtol=1e-6)
    energies = named(labelled(figure, "energy [J]"))
    computing = inst.kappa * inst.c[row] * best.f**2
    np.testing.assert_allclose(heights(energies["computing"]), computing, rtol=1e-4)
    sending = inst.p * heights(times["sending"]) / 1e3
    np.testing.assert_allclose(heights(energies["sending"]), sending, rtol=1e-5)
    bandwidth = labelled(figure, "bandwidth [MHz]")
    np.testing.assert_allclose(heights(bandwidth.patches), best.b)
    assert heights(bandwidth.patches).sum() == pytest.approx(float(inst.B), rel=1e-3)
    numbers = [text.get_text() for text in bandwidth.texts]
    assert numbers == ["host" if place == 0 else str(place) for place in point]
    assert {text.get_color() for text in bandwidth.texts} == {text_on(BLUE)}
    devices = f"robust, instance {chosen}: 3 devices with alexnet, {float(inst.B):.3g} MHz, "
    risk = f"deadlines missed with probability at most {float(inst.eps[0]):.3g}"
    assert figure.get_suptitle() == devices + risk


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
