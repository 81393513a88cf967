"""The slow services version against printed values, numbers worked by hand and bounds."""

import dataclasses
import itertools

import numpy as np
import pytest

from .services import (
    Scenario,
    Service,
    Slot,
    alone,
    batch_rewards,
    coord_descent,
    default_links,
    detection,
    doubling,
    fit_prices,
    fixed_slot,
    heuristic,
    options,
    pick,
    play,
    price_table,
    random_actions,
    random_scenario,
    random_slot,
    seq_greedy,
    shortest,
    tracking,
    upper_bound,
)

PRINTED = dict(rel=0, abs=5.01e-7)


@pytest.fixture(scope="module")
def default():
    return Scenario()


def small(**changes):
    """Two linked servers, one service with two configurations and two models, two agents.

    A request of 1 MB at full size takes .5 s to reach server 0, .25 s to reach server 1, .08 s over
    the link, and .1 s of computing on server 0 or .2 s on server 1.
    """
    service = Service(
        accuracy=[[0.8, 0.4], [0.6, 0.2]],
        size=[1, 0.5],
        inferences=[2, 1],
        memory_mb=[100, 50],
        tflop=[0.1, 0.05],
        data_mb=(1, 2),
        limits_s=(1, 2),
    )
    fields = dict(
        agents=[2],
        services=[service],
        links={(0, 1): 100},
        compute=[2, 1],
        memory_gb=[1, 1],
        uplink=[16, 32],
    )
    return Scenario(**{**fields, **changes})


def small_slot(**changes):
    fields = dict(
        local=[0, 0], limit_s=[2, 2], data_mb=[1, 1], busy_tflop=[0.2, 0.3], busy_mb=[100, 500]
    )
    return Slot(**{**fields, **changes})


class TestTables:
    def test_standard_accuracy_as_printed(self):
        service = detection()
        found = [service.standard(5, m) for m in range(4)]
        assert found == pytest.approx([0.740235, 0.687514, 0.865100, 0.792955], **PRINTED)
        service = tracking()
        found = [service.standard(5, m) for m in range(3)]
        assert found == pytest.approx([0.933573, 0.229536, 0.492490], **PRINTED)

    def test_sizes_as_printed(self):
        found = [detection().size[c] for c in (5, 11, 15)]
        assert found == pytest.approx([0.275941, 0.080024, 0.024630], **PRINTED)
        found = [tracking().size[c] for c in (5, 11, 15)]
        assert found == pytest.approx([0.352193, 0.073405, 0.022593], **PRINTED)

    @pytest.mark.parametrize(
        ("service", "least", "most"), [(detection(), 0.097, 0.42), (tracking(), 0.6, 0.85)]
    )
    def test_ranges_and_slopes(self, service, least, most):
        accuracy = np.array(service.accuracy).reshape(4, 4, -1)
        assert accuracy.min() == pytest.approx(least, abs=1e-12)
        assert accuracy.max() == pytest.approx(most, abs=1e-12)
        assert (np.diff(accuracy, axis=0) < 0).all() and (np.diff(accuracy, axis=1) < 0).all()
        size = np.array(service.size).reshape(4, 4)
        assert (np.diff(size, axis=0) < 0).all() and (np.diff(size, axis=1) < 0).all()
        assert size[0, 0] == 1

    def test_inferences_are_frames_of_a_clip(self):
        assert set(detection().inferences) == {1}
        assert tracking().inferences == [30, 15, 10, 5] * 4


class TestNetwork:
    def test_default_links_as_printed(self):
        printed = """
            0-1:300 0-4:200 1-2:50 1-5:200 2-3:400 2-6:400 3-7:300 4-5:300 4-8:400 5-9:200 6-7:50
            6-10:200 7-11:400 8-9:50 8-12:300 9-10:300 9-13:400 10-14:200 11-15:200 12-13:400
            13-14:50 14-15:300"""
        found = [f"{i}-{j}:{bandwidth}" for (i, j), bandwidth in default_links().items()]
        assert found == printed.split()

    def test_default_paths_as_printed(self, default):
        assert (default.R[0][15], default.hops[0][15]) == (0.025, 6)
        assert default.R[3][12] == pytest.approx(0.018333, **PRINTED)
        assert default.hops[3][12] == 6
        assert (np.mean(default.hops), np.max(default.hops)) == (3.140625, 8)
        assert 1e3 * np.mean(default.R) == pytest.approx(12.1940, abs=5.01e-5)
        assert 1e3 * np.max(default.R) == pytest.approx(30, abs=1e-9)

    def test_default_paths_of_fewest_links_as_printed(self):
        scenario = Scenario(metric="hops")
        assert (np.mean(scenario.hops), np.max(scenario.hops)) == (2.640625, 6)
        assert 1e3 * np.mean(scenario.R) == pytest.approx(14.5443, abs=5.01e-5)
        assert 1e3 * np.max(scenario.R) == pytest.approx(48.3333, abs=5.01e-5)

    def test_equally_fast_paths_are_told_apart_by_links(self):
        links = {(0, 1): 200, (1, 2): 200, (0, 2): 100}
        R, hops = shortest(links, 3)
        assert (float(R[0][2]), hops[0][2]) == (1 / 100, 1)

    def test_metrics_disagree_on_a_slow_direct_link(self):
        links = {(0, 1): 400, (1, 2): 300, (0, 2): 100}
        R, hops = shortest(links, 3)
        assert (float(R[0][2]), hops[0][2]) == (7 / 1200, 2)
        R, hops = shortest(links, 3, "hops")
        assert (float(R[0][2]), hops[0][2]) == (12 / 1200, 1)

    def test_a_network_in_two_parts_is_refused(self):
        with pytest.raises(ValueError, match="server 0 reaches 2 of 4 servers"):
            shortest({(0, 1): 100, (2, 3): 100}, 4)


class TestFixedCases:
    def test_case_0(self, default):
        slot = fixed_slot(default, 0)
        assert slot.local == [0, 5, 10, 15, 4, 9, 14, 3]
        assert slot.limit_s == [0.5, 1, 1.5, 2, 20, 25, 1, 5]
        assert slot.data_mb == pytest.approx([1, 3.7, 6.4, 9.1, 8, 12.5, 17, 6.5], abs=1e-12)
        out = play(default, slot, [(15, 0, v) for v in slot.local])
        assert out.accepted == [True] * 6 + [False, True]
        assert out.late == [False] * 6 + [True, False]
        delays = [0.210646, 0.268029, 0.725672, 0.340936, 4.481593, 1.739813, 1.718249, 1.628883]
        assert out.delay_s == pytest.approx(delays, **PRINTED)
        found = out.r1, out.r2, out.r3, out.r, out.cost_mem
        printed = -98.008147, -9.395574, -0.030010, -107.433731, 0.027687
        assert found == pytest.approx(printed, **PRINTED)

    def test_case_2(self, default):
        slot = fixed_slot(default, 2)
        assert slot.local == [6, 11, 0, 5, 10, 15, 4, 9]
        assert slot.limit_s == [1.5, 2, 0.5, 1, 1, 5, 10, 15]
        assert slot.data_mb == pytest.approx([4.6, 7.3, 1, 3.7, 14, 18.5, 8, 12.5], abs=1e-12)
        out = play(default, slot, [(11, 2, 11)] * 8)
        assert out.accepted == [True, True, False, False, False, True, True, True]
        delays = [0.593677, 0.878480, 1.138813, 1.223390, 1.656374, 1.731574, 2.128235, 2.736324]
        assert out.delay_s == pytest.approx(delays, **PRINTED)
        found = out.r1, out.r2, out.r3, out.r, out.cost_mem
        printed = -297.813603, -8.068290, -0.170469, -306.052363, 0.009342
        assert found == pytest.approx(printed, **PRINTED)


class TestByHand:
    def test_one_request_over_the_link(self):
        out = play(small(), small_slot(), [(0, 0, 1), None])
        assert out.delay_s == pytest.approx([8 / 16 + 8 / 100 + (0.2 + 0.3) / 1])
        assert out.accuracy == [1]
        assert out.cost_rou == pytest.approx([0.002 * 8 * 1])
        assert out.cost_cmp == pytest.approx([0.0003 * 0.2 / 1 + 0.016 * 1 / 1024])
        assert out.cost_mem == pytest.approx(0.016 * 100 / 1024)
        assert out.r == pytest.approx(1 - 1.08 - 0.016 - 0.00006 - 0.016 * 101 / 1024)

    def test_the_second_request_waits_for_the_first_on_its_server_alone(self):
        together = play(small(), small_slot(), [(0, 0, 0), (1, 1, 0)])
        assert together.delay_s == pytest.approx([0.5 + 0.4 / 2, 0.25 + 0.45 / 2])
        apart = play(small(), small_slot(), [(0, 0, 0), (1, 1, 1)])
        assert apart.delay_s == pytest.approx([0.7, 0.25 + 0.04 + 0.35])

    def test_sharing_an_instance_saves_its_cost(self):
        shared = play(small(), small_slot(), [(0, 0, 0), (1, 0, 0)])
        other = play(small(), small_slot(), [(0, 0, 0), (1, 0, 1)])
        assert shared.cost_mem == pytest.approx(0.016 * 100 / 1024)
        assert other.cost_mem - shared.cost_mem == pytest.approx(0.016 * 100 / 1024)

    def test_sharing_an_instance_saves_its_memory(self):
        slot = small_slot(busy_mb=[922.5, 500])  # .5 MB are left beside the first request
        assert play(small(), slot, [(0, 0, 0), (1, 0, 0)]).accepted == [True, True]
        out = play(small(), slot, [(0, 0, 0), (1, 1, 0)])
        assert (out.accepted, out.memory_reject) == ([True, False], [False, True])

    def test_services_do_not_share_instances(self):
        service = small().services[0]
        scenario = small(agents=[1, 1], services=[service, service])
        out = play(scenario, small_slot(), [(0, 0, 0), (0, 0, 0)])
        assert out.cost_mem == pytest.approx(2 * 0.016 * 100 / 1024)

    def test_equality_accepts(self):
        # .5 + (.1 x 2 + .3) / 2 s and 923 + 1 + 100 MB are exact in binary
        slot = small_slot(limit_s=[0.75, 2], busy_tflop=[0.3, 0.3], busy_mb=[923, 0])
        assert play(small(), slot, [(0, 0, 0), None]).accepted == [True]
        late = dataclasses.replace(slot, limit_s=[np.nextafter(0.75, 0), 2])
        out = play(small(), late, [(0, 0, 0), None])
        assert (out.late, out.memory_reject, out.r) == ([True], [False], -100)
        full = dataclasses.replace(slot, busy_mb=[923 + 2**-40, 0])
        out = play(small(), full, [(0, 0, 0), None])
        assert (out.late, out.memory_reject, out.r) == ([False], [True], -100)

    def test_a_request_that_is_late_and_does_not_fit_counts_as_late(self):
        slot = small_slot(limit_s=[0.1, 2], busy_mb=[1000, 0])
        out = play(small(), slot, [(0, 0, 0), None])
        assert (out.late, out.memory_reject) == ([True], [False])

    @pytest.mark.parametrize("changes", [{"limit_s": [0.1, 2]}, {"data_mb": [2000, 1]}])
    def test_a_rejected_request_leaves_nothing_behind(self, changes):
        slot = small_slot(**changes)
        scenario = small(bits_per_byte=8e-4 if "data_mb" in changes else 8)
        both = play(scenario, slot, [(0, 0, 0), (0, 0, 0)])
        one = play(scenario, slot, [None, (0, 0, 0)])
        assert (both.accepted, one.accepted) == ([False, True], [True])
        assert both.delay_s[1:] == one.delay_s
        assert both.r1 == one.r1 - 100
        assert (both.r2, both.r3, both.cost_mem) == (one.r2, one.r3, one.cost_mem)

    def test_a_masked_model_is_rejected(self, default):
        slot = fixed_slot(default, 0)
        actions = [(15, 0, v) for v in slot.local]
        actions[4] = (15, 3, slot.local[4])
        out = play(default, slot, actions)
        assert (out.accepted[4], out.late[4], out.memory_reject[4]) == (False, False, True)
        assert out.accuracy[4] == -100

    def test_percent_scales_accuracy_but_not_the_penalty(self, default):
        percent = Scenario(preset="percent")
        slot = fixed_slot(default, 0)
        actions = [(15, 0, v) for v in slot.local]
        plain, scaled = play(default, slot, actions), play(percent, slot, actions)
        assert scaled.r1 + 100 == pytest.approx(100 * (plain.r1 + 100))
        assert (scaled.r2, scaled.r3) == (plain.r2, plain.r3)

    def test_doubling(self):
        assert doubling([(0, 0, 3), (1, 1, 3), (0, 0, 3), (0, 0, 5)]) == 0.5

    def test_own_values_and_bound(self):
        scenario, slot = small(), small_slot(local=[0, 1], limit_s=[0.69, 2])
        asked = options(scenario, slot)
        values, delay = alone(scenario, asked[0])
        assert delay[0] == pytest.approx(0.5 + 0.4 / 2)
        assert values[0] == pytest.approx(-100 - 0.7)  # late by .01 s
        least = -(0.25 + 0.25 / 2) - (0.0003 * 0.05 / 2 + 0.016 * 50.5 / 1024)
        c, m, k = 1, 1, 0
        assert values[(c * 2 + m) * 2 + k] == pytest.approx(least)
        halved_here = 2 / 3 - (0.25 + 0.3 / 2) - (0.0003 * 0.1 / 2 + 0.016 * 0.5 / 1024)
        full_there = 1 - (0.25 + 0.08 + 0.4 / 2) - (0.016 + 0.0003 * 0.2 / 2 + 0.016 / 1024)
        assert upper_bound(scenario, slot) == pytest.approx(halved_here + full_there)

    def test_bound_of_requests_that_nobody_can_serve(self):
        assert upper_bound(small(), small_slot(limit_s=[0.01, 0.01])) == -200

    def test_bound_asks_for_the_data_alone(self):
        slot = small_slot(busy_mb=[1023, 1023.9])
        assert play(small(), slot, [(1, 1, 0), (1, 1, 0)]).accepted == [False, False]
        full_here = 1 - (0.5 + 0.4 / 2) - (0.0003 * 0.2 / 2 + 0.016 / 1024)
        assert upper_bound(small(), slot) == pytest.approx(2 * full_here)

    def test_bound_when_rejection_is_best(self):
        assert upper_bound(small(penalty=10), small_slot()) == 20


class TestRandomness:
    def test_slots_stay_in_their_ranges(self, default):
        rng = np.random.default_rng(0)
        slots = [random_slot(default, rng) for _ in range(200)]
        data = np.array([slot.data_mb for slot in slots])
        assert 1 <= data[:, :4].min() < 1.1 and 9.9 < data[:, :4].max() <= 10
        assert 5 <= data[:, 4:].min() < 5.1 and 19.9 < data[:, 4:].max() <= 20
        limits = np.array([slot.limit_s for slot in slots])
        assert set(limits[:, :4].ravel()) == {0.5, 1, 1.5, 2}
        assert set(limits[:, 4:].ravel()) == {1, 5, 10, 15, 20, 25}
        assert {v for slot in slots for v in slot.local} == set(range(16))
        work = np.array([slot.busy_tflop for slot in slots])
        assert 0.1 <= work.min() < 0.101 and 0.299 < work.max() <= 0.3
        memory = np.array([slot.busy_mb for slot in slots])
        assert 100 <= memory.min() < 101 and 899 < memory.max() <= 900

    def test_scenarios_are_drawn_by_row_then_by_constant(self):
        scenario = random_scenario(3)
        rng = np.random.default_rng(3)
        links = [[50, 100, 200, 300, 400][rng.integers(5)] for _ in range(22)]
        assert list(scenario.links.values()) == links
        assert list(scenario.links) == list(default_links())
        assert scenario.compute == [[0.5, 1.26, 1.33][rng.integers(3)] for _ in range(16)]
        assert scenario.memory_gb == [[1, 2, 4][rng.integers(3)] for _ in range(16)]
        assert scenario.uplink == [[36, 48, 64, 72][rng.integers(4)] for _ in range(16)]


class TestBaselines:
    @pytest.mark.parametrize("preset", ["literal", "percent"])
    @pytest.mark.parametrize("count", [4, 5])
    def test_batches_equal_single_plays(self, preset, count):
        scenario = Scenario(agents=(count, count), preset=preset)
        rng = np.random.default_rng(1)
        for crowd in (16, 2):
            slot = random_slot(scenario, rng)
            asked = options(scenario, slot)
            plays = [random_actions(scenario, rng) for _ in range(50)]
            plays = [[(c, m, k % crowd) for c, m, k in joint] for joint in plays]
            chosen = []
            for u, x in enumerate(asked):
                models = len(scenario.service(u).tflop)
                index = [(c * models + m) * 16 + k for c, m, k in (a[u] for a in plays)]
                chosen.append(pick(x, np.array(index)))
            expected = [play(scenario, slot, actions).r for actions in plays]
            assert batch_rewards(scenario, chosen) == pytest.approx(expected, abs=1e-9)

    def test_services_of_different_sizes(self):
        wide = small().services[0]
        narrow = Service([[0.9, 0.5, 0.1]], [1], [3], [70, 30, 10], [0.2, 0.1, 0.05], (1, 3), (2,))
        scenario = small(agents=[1, 2], services=[wide, narrow])
        rng = np.random.default_rng(9)
        slot = random_slot(scenario, rng)
        asked = options(scenario, slot)
        assert [len(x["server"]) for x in asked] == [8, 6, 6]
        for indices in itertools.product(range(8), range(6), range(6)):
            chosen = [pick(x, slice(i, i + 1)) for x, i in zip(asked, indices, strict=True)]
            models = zip(indices, (2, 3, 3), strict=True)
            actions = [(i // 2 // count, i // 2 % count, i % 2) for i, count in models]
            out = play(scenario, slot, actions)
            assert batch_rewards(scenario, chosen)[0] == pytest.approx(out.r, abs=1e-9)
        drawn = [random_actions(scenario, rng) for _ in range(200)]
        assert np.max(drawn, axis=0).tolist() == [[1, 1, 1], [0, 2, 1], [0, 2, 1]]

    def test_greedy_and_descent_by_exhaustion(self):
        scenario = small()
        rng = np.random.default_rng(2)
        space = list(itertools.product(range(2), range(2), range(2)))
        below = 0
        for _ in range(40):
            slot = random_slot(scenario, rng)
            first = max(space, key=lambda a: play(scenario, slot, [a, None]).r)
            second = max(space, key=lambda a: play(scenario, slot, [first, a]).r)
            greedy = play(scenario, slot, seq_greedy(scenario, slot)).r
            assert greedy == pytest.approx(play(scenario, slot, [first, second]).r, abs=1e-12)
            joint = itertools.product(space, repeat=2)
            best = max(play(scenario, slot, actions).r for actions in joint)
            actions = coord_descent(scenario, slot)
            found = play(scenario, slot, actions).r
            assert greedy - 1e-12 <= found <= best + 1e-12 <= upper_bound(scenario, slot) + 1e-9
            for u, a in itertools.product(range(2), space):
                changed = [a if n == u else actions[n] for n in range(2)]
                assert play(scenario, slot, changed).r <= found + 1e-9
            below += greedy < best - 1e-9
        assert below > 0

    def test_descent_by_single_plays(self):
        scenario = small(agents=[6])
        rng = np.random.default_rng(8)
        space = list(itertools.product(range(2), range(2), range(2)))
        for _ in range(40):
            slot = random_slot(scenario, rng)

            def value(actions, slot=slot):
                return play(scenario, slot, actions).r

            def respond(actions, u):
                changed = [[*actions[:u], a, *actions[u + 1 :]] for a in space]
                return max(changed, key=value)

            ends = []
            for order in (range(6), None, range(5, -1, -1)):
                actions = heuristic(scenario, slot) if order is None else [None] * 6
                for u in order or ():
                    actions = respond(actions, u)
                before = -np.inf
                while value(actions) > before + 1e-12:
                    before = value(actions)
                    for u in range(6):
                        better = respond(actions, u)
                        if value(better) > value(actions) + 1e-12:
                            actions = better
                ends.append(value(actions))
            assert value(coord_descent(scenario, slot)) == pytest.approx(max(ends), abs=1e-9)

    def test_heuristic_plays_as_if_alone(self, default):
        scenario = small()
        rng = np.random.default_rng(3)
        space = list(itertools.product(range(2), range(2), range(2)))
        for _ in range(20):
            slot = random_slot(scenario, rng)
            found = heuristic(scenario, slot)
            for u in range(2):
                lone = [[a if n == u else None for n in range(2)] for a in (found[u], *space)]
                values = [play(scenario, slot, actions).r for actions in lone]
                assert values[0] == max(values)

    @pytest.mark.parametrize("preset", ["literal", "percent"])
    def test_order_of_the_baselines(self, preset):
        scenario = Scenario(preset=preset)
        rng = np.random.default_rng(4)
        for _ in range(5):
            slot = random_slot(scenario, rng)
            bound = upper_bound(scenario, slot)
            best = play(scenario, slot, coord_descent(scenario, slot)).r
            assert best <= bound
            for policy in (seq_greedy, heuristic):
                assert play(scenario, slot, policy(scenario, slot)).r <= best + 1e-9
            assert play(scenario, slot, random_actions(scenario, rng)).r <= bound

    def test_prices_move_agents_between_servers(self, default):
        slot = random_slot(default, np.random.default_rng(5))
        assert price_table(default, slot, np.zeros((8, 16))) == heuristic(default, slot)
        prices = np.full((8, 16), 1e4)
        own = [3, 14, 1, 5, 9, 2, 6, 10]
        prices[np.arange(8), own] = 0
        found = price_table(default, slot, prices)
        assert [k for _, _, k in found] == own
        for u, (c, m, k) in enumerate(found):
            values, _ = alone(default, options(default, slot)[u])
            table = values.reshape(16, -1, 16)
            assert table[c, m, k] == table[:, :, k].max()

    def test_fitted_prices_earn_what_the_fit_says_and_more_than_no_prices(self, default):
        rng = np.random.default_rng(6)
        slots = [random_slot(default, rng) for _ in range(20)]
        prices, value = fit_prices(default, slots, rng, starts=5, proposals=200)

        def mean(table):
            played = [play(default, slot, price_table(default, slot, table)).r for slot in slots]
            return np.mean(played)

        assert mean(prices) == pytest.approx(value, abs=1e-9)
        assert set(np.unique(prices)) <= {0, 0.05, 0.1, 0.2, 0.5, 1, 5}
        _, start = fit_prices(default, slots, np.random.default_rng(7), starts=5, proposals=0)
        _, fitted = fit_prices(default, slots, np.random.default_rng(7), starts=5, proposals=200)
        assert fitted > start > mean(np.zeros((8, 16)))
