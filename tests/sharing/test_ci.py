"""The jobs of `protogen help ci`, step by step as they are written, twice in clean folders: the second makes none."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import Command, make

from protogen.files.schemas import SCHEMA
from protogen.topics.reading import text_of

pytestmark = pytest.mark.slow

GITHUB, GITLAB = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text_of("ci"), re.DOTALL))
# A project: what it needs, and a test of its own that reads what the lock names without measuring it.
PROJECT = {
    "requirements.txt": "protogen-codes\n",
    "test_project.py": """
import protogen

def test_the_set_is_there():
    pin = protogen.pins()["it"]
    (kept,) = protogen.artifacts("prototypes", key=pin.spec.key)
    assert kept.digest == pin.digest
""",
}
Job = Callable[[Path, Path], list[str]]


def shell(folder: Path, script: str, **variables: object) -> str:
    """Run a script as the runners do, in a folder, and give what it prints; nothing else may be said."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PROTOGEN_", "PIP_", "PYTEST"))}
    paths = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    quick = {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PIP_NO_DEPS": "1"}
    env = clean | quick | {"PATH": paths, **{name: str(value) for name, value in variables.items()}}
    ran = subprocess.run(["bash", "-e", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == "" or script.startswith("pip "), ran.stderr
    return ran.stdout


def restore(cache: Path, here: Path) -> bool:
    """Put what a cache has into a folder, if it has anything."""
    if cache.exists():
        shutil.copytree(cache, here)
    return cache.exists()


def github(folder: Path, caches: Path) -> list[str]:
    """Do the job for GitHub in a clean checkout; `caches` has a folder for each key. Give what its steps print."""
    outputs = folder.parent / f"{folder.name}.outputs"
    outputs.touch()
    printed, hit = [], False
    for step in GITHUB["jobs"]["test"]["steps"]:
        known = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        settings = step.get("with", {})
        if "run" in step:
            assert "if" not in step
            printed.append(shell(folder, step["run"], GITHUB_OUTPUT=outputs))
        elif step["uses"].startswith("actions/cache/"):
            assert settings["key"] == "${{ steps.key.outputs.key }}"
            assert settings["path"] == "prototypes"
            cache, here = caches / known["key"], folder / "prototypes"
            if step["uses"].startswith("actions/cache/restore@"):
                assert (step["id"], settings["restore-keys"]) == ("cache", "protogen-")
                assert known["key"].startswith(settings["restore-keys"])
                hit = restore(cache, here)
            else:
                assert step["uses"].startswith("actions/cache/save@")
                assert step["if"] == "steps.cache.outputs.cache-hit != 'true'"
                if not hit:
                    shutil.copytree(here, cache)
        else:
            assert step["uses"].split("@")[0] in ("actions/checkout", "actions/setup-python")
    return printed


def gitlab(folder: Path, caches: Path) -> list[str]:
    """Do the job for GitLab in a clean checkout, as `github`."""
    job = GITLAB["test"]
    assert job.keys() == {"image", "cache", "script"}
    (path,), (named,) = job["cache"]["paths"], job["cache"]["key"]["files"]
    assert (path, named, job["cache"]["when"]) == ("prototypes", "protogen.lock", "always")
    key = hashlib.sha1((folder / named).read_bytes()).hexdigest()
    cache, here = caches / f"{job['cache']['key']['prefix']}-{key}", folder / path
    restore(cache, here)
    printed = [shell(folder, line) for line in job["script"]]
    shutil.rmtree(cache, ignore_errors=True)
    shutil.copytree(here, cache)
    return printed


@pytest.mark.parametrize("job", [github, gitlab])
def test_the_second_run_makes_nothing(run: Command, tmp_path: Path, job: Job) -> None:
    made = make(run, "ebv", "--d", 4, "--n", 4)
    run("lock", "add", "it", made)
    printed: list[Any] = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        shutil.copy("protogen.lock", tmp_path / name)
        for file, content in PROJECT.items():
            (tmp_path / name / file).write_text(content)
        printed.append(job(tmp_path / name, tmp_path / "caches"))
    path = f"prototypes/{made.relative_to('store')}"
    for lines, how in zip(printed, ("generated", "present"), strict=True):
        assert f"it: {how}, {path}\n" in lines
        assert "0 removed, 0.00 MB\n" in lines
        assert "Requirement already satisfied: protogen-codes" in lines[0]
        assert " 1 passed" in lines[-1]
    assert (tmp_path / "first" / path).read_bytes() == (tmp_path / "second" / path).read_bytes()
    assert len(list((tmp_path / "caches").iterdir())) == 1


def test_the_key_of_gitlab_changes_with_the_schema() -> None:
    assert GITLAB["test"]["cache"]["key"]["prefix"] == f"protogen-{SCHEMA}"


def test_the_jobs_have_the_same_steps_in_shell() -> None:
    steps = [step["run"] for step in GITHUB["jobs"]["test"]["steps"] if "run" in step]
    assert [step for step in steps if "cache-key" not in step] == GITLAB["test"]["script"]
