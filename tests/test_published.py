"""What is published: a wheel and an sdist with every file, which install and run in an environment of their own."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import protogen

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME = f"protogen_codes-{PROJECT['version']}"
MADE = ("__pycache__", ".hypothesis")  # by running, not by writing


def files(folder: str) -> set[str]:
    """The files of a folder of the repository by their paths, without those that running leaves."""
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and not set(MADE) & set(path.parts))
    return {path.relative_to(ROOT).as_posix() for path in found}


def done(*words: object, cwd: Path, **variables: str) -> str:
    """Run a program that ends well, and give what it prints."""
    ran = subprocess.run(
        [*map(str, words)], capture_output=True, text=True, cwd=cwd, timeout=120, env=CLEAN | variables
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PROTOGEN_"))}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is made of it."""
    folder = tmp_path_factory.mktemp("built")
    done(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    with tarfile.open(folder / f"{NAME}.tar.gz") as sdist:
        sdist.extractall(folder, filter="data")
    done(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=folder / NAME)
    return folder


def test_the_sdist_has_what_builds_and_what_tests(built: Path) -> None:
    packed = {path.relative_to(built / NAME).as_posix() for path in (built / NAME).rglob("*") if path.is_file()}
    needed = files("protogen") | files("tests") | files(".github") | files(".ci")
    assert needed <= packed
    assert {"README.md", "LICENSE", "pyproject.toml", "constraints.txt", "PKG-INFO"} <= packed
    kept = (line for line in (ROOT / ".gitignore").read_text().splitlines() if line.startswith("!/prototypes/"))
    assert {path for path in packed if path.startswith("prototypes/")} == {
        line.removeprefix("!/") for line in kept if line.endswith(".safetensors")
    }
    assert not {path for path in packed if path.startswith((".venv", ".git/", "dist/"))}


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as wheel:
        names = set(wheel.namelist())
        said = wheel.read(f"{NAME}.dist-info/METADATA").decode()
    assert {name for name in names if not name.startswith(f"{NAME}.dist-info/")} == files("protogen")
    assert {
        "protogen/py.typed",
        "protogen/catalog/direct/packings.txt",
        "protogen/catalog/algebra/sections.txt",
        "protogen/topics/ci.md",
    } <= names
    assert f"{NAME}.dist-info/licenses/LICENSE" in names
    assert f"\nVersion: {PROJECT['version']}\n" in said
    assert f"\nRequires-Python: {PROJECT['requires-python']}\n" in said
    assert {f"\nProvides-Extra: {extra}\n" in said for extra in PROJECT["optional-dependencies"]} == {True}


def test_the_wheel_runs_in_an_environment_of_its_own(built: Path, tmp_path: Path) -> None:
    home = tmp_path / "env"
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    wheel = built / f"{NAME}-py3-none-any.whl"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    done(*pip, "install", "-q", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    (packages,) = home.glob("lib/*/site-packages")
    # What protogen needs is found where the tests run; their own protogen, by a .pth there, is not.
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib"))
    script = home / "bin" / "protogen"
    assert done(script, "--version", cwd=tmp_path) == f"{PROJECT['version']}\n"
    where = done(python, "-c", "import protogen; print(protogen.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(home)
    catalog = json.loads(done(script, "catalog", "--d", 10, "--n", 40, "--json", cwd=tmp_path))
    assert catalog == protogen.listing(10, 40, False)
    assert done(script, "help", "ci", cwd=tmp_path) == (ROOT / "protogen" / "topics" / "ci.md").read_text()
    made = Path(done(script, "ebv", "--d", 7, "--n", 28, "--quiet", cwd=tmp_path).strip())
    assert made.name == f"v1-{protogen.resolve('ebv', d=7, n=28).key}.safetensors"


def test_a_test_runs_from_the_sdist(built: Path) -> None:
    ran = done(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_errors.py"),
        cwd=built / NAME,
        PYTHONPATH=str(built / NAME),
    )
    assert " passed" in ran
