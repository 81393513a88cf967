"""The built wheel: what it carries, and that it works beside folders with the names of ours."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("jaxenv", "allocators", "agents", "conf", "runs")
PROGRAMS = (
    "train",
    "evaluate",
    "reproduce",
    "benchmark",
    "render",
    "solve",
    "export",
    "profile",
    "traffic",
    "report",
    "gpu",
    "verify",
    "drills",
)

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path, **options) -> str:
    """Output of a command, which must succeed."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, **options
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built without a network from a copy, so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    unwanted = shutil.ignore_patterns("__pycache__")
    for name in PACKAGES:
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, source / name, ignore=unwanted)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--check-build-dependencies", "--wheel-dir", folder, source, cwd=folder)
    (built,) = folder.glob("jaxenv-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """The ``bin`` of a virtual environment with the wheel; libraries are those that run the tests.

    A ``.pth`` file adds the site-packages of the running interpreter after the wheel's own.
    Editable installs there are not processed, so nothing of the checkout can be imported.
    """
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    (site,) = (folder / "lib").glob("python*/site-packages")
    libraries = Path(importlib.metadata.distribution("jax").locate_file(""))
    (site / "libraries.pth").write_text(f"{libraries}\n")
    python = folder / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet"),
        *("--no-deps", "--no-index", "--force-reinstall", wheel),
        cwd=folder,
    )
    return folder / "bin"


@pytest.fixture(params=["empty folder", "folders with our names"])
def project(request, tmp_path) -> Path:
    """A user's folder; in the second kind importing any of its packages fails."""
    if request.param != "empty folder":
        for name in PACKAGES:
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the user\\'s own')")
    return tmp_path


def test_carries_every_package_and_configuration_file(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for kind in ("*.py", "*.yaml", "*.csv")
        for path in (ROOT / package).rglob(kind)
    }
    assert {name.partition("/")[0] for name in expected} == set(PACKAGES)
    assert any(name.startswith("conf/") and name.endswith(".yaml") for name in expected)
    assert expected - names == set()
    tops = {name.partition("/")[0] for name in names}
    assert tops - set(PACKAGES) == {name for name in tops if name.endswith(".dist-info")}


def test_declares_the_console_scripts(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))
    declared = archive.read(name).decode()
    for program in PROGRAMS:
        assert f"jaxenv-{program} = runs.{program}:main" in declared


def test_license_and_version(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (n for n in archive.namelist() if n.endswith("/METADATA"))
    metadata = archive.read(name).decode()
    import jaxenv

    assert f"Version: {jaxenv.__version__}\n" in metadata
    assert "License-Expression: Apache-2.0" in metadata
    assert any(n.endswith("licenses/LICENSE") for n in archive.namelist())


def test_packages_come_from_the_wheel(environment, project):
    code = f"import {', '.join(PACKAGES)}\nprint(*(m.__file__ for m in ({', '.join(PACKAGES)})))"
    files = run(environment / "python", "-P", "-c", code, cwd=project).split()
    assert len(files) == len(PACKAGES)
    assert all(Path(file).is_relative_to(environment.parent) for file in files)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_console_script_shows_its_help(environment, project, program):
    text = run(environment / f"jaxenv-{program}", "--help", cwd=project)
    assert f"python -m runs.{program} name=value" in text


def test_training_runs_from_the_users_folder(environment, project):
    """A few updates end with the files that a run folder always holds."""
    run(
        *(environment / "jaxenv-train", "env=vehicular", "agent=sac_discrete", "num_updates=2"),
        *("eval_episodes=2", "num_seeds=1", "baselines=[Local]", "hydra.run.dir=out"),
        cwd=project,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    for name in ("config.yaml", "metrics.csv", "evaluation.csv"):
        assert (project / "out" / name).stat().st_size > 0
