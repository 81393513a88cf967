"""Sites of edge servers against hand-worked projections and the EUA file."""

import os
from pathlib import Path

import numpy as np
import pytest

from jaxenv.data import draw_sites, read_sites, read_users, users_per_site
from jaxenv.errors import ConfigError
from jaxenv.physics import graphs

pytestmark = pytest.mark.quick

DATA = Path(os.environ.get("JAXENV_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
MELBOURNE = DATA / "eua" / "site-optus-melbCBD.csv"
GOOD = "SITE_ID,LATITUDE,LONGITUDE,NAME\n1,60.001,10.004,a\n2,59.999,9.996,b\n3,60,10,c\n"


def write(tmp_path, text):
    path = tmp_path / "sites.csv"
    path.write_text(text)
    return path


def test_the_projection_as_worked_by_hand(tmp_path):
    """A degree is 111195.08 m of latitude and, at 60 degrees north, half of that of longitude."""
    positions_m = read_sites(write(tmp_path, GOOD))
    np.testing.assert_allclose(
        positions_m, [[222.39016, 111.19508], [-222.39016, -111.19508], [0, 0]], atol=1e-5
    )


def test_users_are_placed_about_the_mean_of_the_sites(tmp_path):
    """The mean is 60 N, 10 E; further users there do not move it. Names in capitals or not."""
    sites, users = write(tmp_path, GOOD), tmp_path / "users.csv"
    users.write_text("Latitude,Longitude\n60.001,10.004\n60,10\n60,10\n")
    users_m = read_users(users, sites)
    np.testing.assert_allclose(users_m, [[222.39016, 111.19508], [0, 0], [0, 0]], atol=1e-5)
    np.testing.assert_array_equal(users_per_site(users_m, read_sites(sites)), [1, 0, 2])


def test_a_site_twice_is_refused_and_users_twice_are_not(tmp_path):
    path = write(tmp_path, GOOD + "4,59.999,9.996,again\n")
    valid = r"line 5, LATITUDE and LONGITUDE: \(59\.999, 9\.996\) .* site of line 3 is at the same"
    with pytest.raises(ConfigError, match=valid) as error:
        read_sites(path)
    assert "\n" not in str(error.value)
    assert len(read_users(path, path)) == 4


BAD = {
    "empty file": ("", r"columns: \[\] is not valid; give LATITUDE, LONGITUDE"),
    "no latitude": (GOOD.replace("LATITUDE", "Lat"), r"'Lat', .* give LATITUDE, LONGITUDE"),
    "no rows": ("LATITUDE,LONGITUDE\n", "number of rows: 0 is not valid"),
    "column twice": ("LATITUDE,LONGITUDE,LATITUDE\n1,2,3\n", "column 'LATITUDE'"),
    "not a number": (GOOD.replace("59.999", "south"), "line 3, LATITUDE: 'south' is not valid"),
    "not finite": (GOOD.replace("9.996", "nan"), "line 3, LONGITUDE: 'nan' is not valid"),
    "empty cell": (GOOD.replace("10,c", ",c"), "line 4, LONGITUDE: '' is not valid"),
    "short row": (GOOD + "4,60\n", "line 5, LONGITUDE: None is not valid"),
    "latitude": (GOOD.replace("59.999", "-90.5"), r"line 3, LATITUDE: -90\.5 .* -90 to 90"),
    "longitude": (GOOD.replace("9.996", "180.1"), r"line 3, LONGITUDE: 180\.1 .* -180 to 180"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path, case):
    text, message = BAD[case]
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as error:
        read_sites(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.csv' is not valid; cannot be read"):
        read_sites(tmp_path / "absent.csv")


def two_towns():
    """Ten sites 100 m apart, and, 10 km away, ten more."""
    east_m = np.concatenate([100.0 * np.arange(10), 1e4 + 100.0 * np.arange(10)])
    return np.stack([east_m, np.zeros(20)], axis=1)


@pytest.mark.parametrize("seed", range(8))
def test_the_first_connected_subset_is_drawn(seed):
    """As drawn here anew: a subset of 3 that lies in one town, no two neighbours 250 m apart."""
    sites_m, rng = two_towns(), np.random.default_rng(seed)
    expected, expected_tries = sites_m[:0], 0
    while len(expected) == 0 or np.diff(expected[:, 0]).max() >= 250.0:
        expected = sites_m[sorted(rng.choice(20, 3, replace=False))]
        expected_tries += 1
    drawn_m, tries = draw_sites(sites_m, seed, num_servers=3, reach_m=250.0)
    assert tries == expected_tries
    np.testing.assert_array_equal(drawn_m, expected)


def test_seeds_need_different_numbers_of_tries():
    tries = [draw_sites(two_towns(), seed, 3, 250.0)[1] for seed in range(8)]
    assert len(set(tries)) > 3 and max(tries) > 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_servers": 21}, "num_servers: 21 is not valid; give 1 to 20"),
        ({"num_servers": 0}, "num_servers: 0 is not valid; give 1 to 20"),
        ({"num_servers": 11}, "reach_m: 500.0 is not valid; none of 1000 subsets of 11 of 20"),
        ({"reach_m": 0.0}, "reach_m: 0.0 is not valid; give a number > 0"),
        ({"reach_m": np.nan}, "reach_m: nan is not valid"),
        ({"seed": -1}, "seed: -1 is not valid; give an integer >= 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        draw_sites(two_towns(), **{"seed": 0, "num_servers": 3} | settings)


@pytest.fixture(scope="module")
def melbourne():
    if not MELBOURNE.exists():
        pytest.skip(f"{MELBOURNE} is absent; set JAXENV_DATA")
    return read_sites(MELBOURNE)


def test_the_sites_of_melbourne_are_about_their_mean(melbourne):
    assert melbourne.shape == (125, 2)
    np.testing.assert_allclose(melbourne.mean(axis=0), 0.0, atol=1e-6)
    assert not graphs.is_connected(graphs.linked(melbourne[:16], 500.0))


def test_seed_0_is_accepted_at_the_5th_try_with_33_links(melbourne):
    drawn_m, tries = draw_sites(melbourne, seed=0)
    linked = graphs.linked(drawn_m, 500.0)
    assert drawn_m.shape == (16, 2)
    assert tries == 5
    assert linked.sum() == 2 * 33


def test_about_half_of_the_random_subsets_are_connected(melbourne):
    tries = [draw_sites(melbourne, seed)[1] for seed in range(200)]
    assert 0.4 < 1 / np.mean(tries) < 0.6


def test_every_user_of_melbourne_has_a_nearest_site(melbourne):
    users_m = read_users(MELBOURNE.with_name("users-melbcbd-generated.csv"), MELBOURNE)
    assert users_m.shape == (816, 2)
    count = users_per_site(users_m, melbourne)
    assert count.sum() == 816
    slow = [min(range(125), key=lambda k: np.hypot(*(user - melbourne[k]))) for user in users_m]
    np.testing.assert_array_equal(count, np.bincount(slow, minlength=125))
