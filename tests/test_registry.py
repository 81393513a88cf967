"""Environments by name: registration, plugins, entry points, and what wrong names get."""

import importlib.util
import sys

import pytest

import jaxenv
from jaxenv import registry
from tests.toy_environments import Corridor

pytestmark = pytest.mark.quick

PLUGIN = """
import jaxenv
from tests.toy_environments import Corridor

jaxenv.register("{name}", Corridor)
"""


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    """Registrations and the import path are as before when a test is over."""
    monkeypatch.setattr(registry, "_environments", dict(registry._environments))
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_a_registered_class_is_made_with_sizes_and_leaves():
    jaxenv.register("corridor", Corridor)
    env, params = jaxenv.make("corridor", length=9, slip_probability=0.25)
    assert env == Corridor(length=9)
    assert float(params.slip_probability) == 0.25
    assert float(params.step_reward) == -1.0
    assert "corridor" in jaxenv.environments()


def test_a_path_is_imported_only_when_it_is_made():
    jaxenv.register("late", "tests.toy_environments:Corridor")
    assert registry.environment_class("late") is Corridor
    jaxenv.register("broken", "no_such_module:Name")
    with pytest.raises(ModuleNotFoundError):
        jaxenv.make("broken")


def test_an_unknown_name_is_refused_with_the_names_there_are():
    jaxenv.register("corridor", Corridor)
    with pytest.raises(jaxenv.ConfigError, match=r"env: 'coridor' .*corridor, .*vehicular"):
        jaxenv.make("coridor")


def test_a_plugin_beside_the_users_files_registers_its_name(tmp_path, monkeypatch):
    (tmp_path / "my_systems.py").write_text(PLUGIN.format(name="mine"))
    monkeypatch.chdir(tmp_path)
    jaxenv.load_plugins(["my_systems"])
    assert jaxenv.make("mine")[0] == Corridor()
    assert sys.path[-1] == str(tmp_path)


def test_a_folder_beside_the_user_does_not_hide_an_installed_package(tmp_path, monkeypatch):
    (tmp_path / "optax").mkdir()
    (tmp_path / "optax" / "__init__.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "optax", raising=False)
    jaxenv.load_plugins()
    assert importlib.util.find_spec("optax").origin != str(tmp_path / "optax" / "__init__.py")


def test_an_unknown_plugin_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(jaxenv.ConfigError, match="plugins: 'no_such_plugin'") as error:
        jaxenv.load_plugins(["no_such_plugin"])
    assert "\n" not in str(error.value)


def test_a_plugin_whose_own_import_fails_shows_its_error(tmp_path, monkeypatch):
    (tmp_path / "needy_plugin.py").write_text("import no_such_dependency")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        jaxenv.load_plugins(["needy_plugin"])


def test_installed_entry_points_are_loaded(tmp_path, monkeypatch):
    (tmp_path / "installed_plugin.py").write_text(PLUGIN.format(name="installed"))
    info = tmp_path / "installed_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installed-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[jaxenv.plugins]\nmine = installed_plugin\n")
    sys.path.insert(0, str(tmp_path))
    jaxenv.load_plugins()
    assert jaxenv.make("installed")[0] == Corridor()
