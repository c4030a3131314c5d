"""The jobs in `examples/ci` and `action.yml`: what they say, and their steps, run as they stand.

Only what needs the network is replaced: packages come from this checkout and this environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / "examples" / "ci" / "github.yml"
GITLAB = ROOT / "examples" / "ci" / "gitlab.yml"
ACTION = ROOT / "action.yml"

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install -e .[dev]")

# Installs a folder without the network, and asks whether the environment has anything else.
_PIP = """#!/bin/sh
for last; do :; done
[ -d "$last" ] || exec "{python}" -m pip show --quiet "$last"
[ ! -d "{site}/edgeconv" ] || exit 0
exec "{python}" -m pip install --quiet --no-index --no-deps --no-build-isolation \\
  --target "{site}" "$last"
"""
_EDGECONV = """#!/bin/sh
PYTHONPATH="{site}" exec "{python}" -P -m edgeconv "$@"
"""
# Makes environments whose programs are those of this one.
_PYTHON = """#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec "{python}" "$@"
mkdir -p "$3/bin" && cp "{bin}/pip" "{bin}/edgeconv" "$3/bin"
"""


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def steps_of(path: Path) -> list[dict[str, Any]]:
    content = parsed(path)
    found: list[dict[str, Any]] = (
        content["runs"]["steps"] if path == ACTION else content["jobs"]["parity"]["steps"]
    )
    return found


def step(path: Path, name: str) -> dict[str, Any]:
    return next(item for item in steps_of(path) if item.get("name") == name)


class Machine:
    """A directory of its own, with the programs that a job calls."""

    def __init__(self, directory: Path, checkout: Path, site: Path) -> None:
        self.directory = directory
        self._checkout = checkout
        self._bin = directory / "bin"
        self._bin.mkdir(parents=True)
        for name, text in (("pip", _PIP), ("edgeconv", _EDGECONV), ("python", _PYTHON)):
            program = self._bin / name
            program.write_text(text.format(python=sys.executable, site=site, bin=self._bin))
            program.chmod(0o755)

    def run(self, script: str, env: Mapping[str, str] | None = None) -> Any:
        """Run a script as the CI systems do: bash, which stops at the first failure."""
        # What GitHub evaluates beforehand, and the address of the package.
        values = {"${{ github.action_path }}": str(self._checkout)}
        given = {name: values.get(value, value) for name, value in (env or {}).items()}
        if "EDGECONV" in given:
            assert re.fullmatch(
                r"git\+https://github.com/OWNER/edgeconv@REVISION", given["EDGECONV"]
            )
            given["EDGECONV"] = str(self._checkout)
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=self.directory,
            env={
                **os.environ,
                "PATH": f"{self._bin}:{os.environ['PATH']}",
                "RUNNER_TEMP": str(self.directory / "temp"),
                "GITHUB_STEP_SUMMARY": str(self.directory / "summary.md"),
                **given,
            },
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that installing leaves no traces in them."""
    copy = tmp_path_factory.mktemp("ci") / "checkout"
    skip = shutil.ignore_patterns(
        ".*", "__pycache__", "*.egg-info", "*.edgeconv", "build", "dist", "benchmarks", "tests"
    )
    shutil.copytree(ROOT, copy, symlinks=True, ignore=skip)
    return copy


@pytest.fixture
def machine(tmp_path: Path, checkout: Path) -> Machine:
    """A machine with the repository of a user: a model, and calibration inputs."""
    made = Machine(tmp_path / "work", checkout, checkout.with_name("site"))
    (made.directory / "temp").mkdir()
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 1)
    ).eval()
    samples = np.random.default_rng(0).normal(size=(24, 1, 3, 8, 8)).astype(np.float32)
    program = torch.export.export(network, (torch.from_numpy(samples[0]),))
    torch.export.save(program, made.directory / "model.pt2")
    np.savez(made.directory / "calibration.npz", input=samples)
    return made


def keep_baseline(machine: Machine, better_db: float = 0.0) -> None:
    """Do what the README says: copy the bundle's `parity.json`; it may be better than it was."""
    parity = json.loads((machine.directory / "model.edgeconv" / "parity.json").read_text())
    for stage in parity["stages"]:
        for output in stage["outputs"]:
            output["sqnr_db"] += better_db if stage["stage"] == "tflite_int8" else 0.0
    folder = machine.directory / "baseline"
    folder.mkdir(exist_ok=True)
    (folder / "parity.json").write_text(json.dumps(parity))


@pytest.mark.parametrize("path", [GITHUB, GITLAB, ACTION], ids=lambda path: path.name)
def test_the_files_are_yaml(path: Path) -> None:
    assert isinstance(parsed(path), dict)
    assert "\t" not in path.read_text()


@pytest.mark.parametrize("path", [GITHUB, ACTION], ids=lambda path: path.name)
def test_steps_are_what_github_takes(path: Path) -> None:
    for item in steps_of(path):
        assert ("uses" in item) != ("run" in item), item
        assert set(item) <= {"name", "uses", "with", "run", "env", "if", "shell"}
        if "uses" in item:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", item["uses"])
        elif path == ACTION:
            assert item["shell"] == "bash"  # composite actions must say so
        assert "${{" not in item.get("run", ""), "values go through env, where nothing is expanded"


def test_the_workflow_and_the_action_have_what_github_requires() -> None:
    content = parsed(GITHUB)
    assert set(content[True]) == {"push", "pull_request"}  # YAML 1.1 reads `on` as a boolean
    assert content["jobs"]["parity"]["runs-on"]
    action = parsed(ACTION)
    assert action["runs"]["using"] == "composite"
    assert action["name"]
    assert action["description"]
    used = set(re.findall(r"\$\{\{ inputs\.([\w-]+) \}\}", ACTION.read_text()))
    assert used == set(action["inputs"])
    for value in action["inputs"].values():
        assert value["description"]
        assert value.get("required") or "default" in value


def test_the_gitlab_job_has_what_gitlab_requires() -> None:
    (job,) = parsed(GITLAB).values()
    assert all(isinstance(line, str) for line in job["script"])
    assert job["artifacts"]["when"] == "always"
    assert job["artifacts"]["reports"] == {"junit": "parity.xml"}


def test_no_job_installs_from_an_index_what_is_not_there() -> None:
    for path in (GITHUB, GITLAB):
        assert not re.search(r"pip install edgeconv", path.read_text())
        assert 'pip install "$EDGECONV"' in path.read_text()


def words(script: str) -> list[str]:
    return script.replace("\\\n", " ").split()


@pytest.mark.slow
def test_the_jobs_pass_and_fail_on_a_regression(machine: Machine) -> None:
    work = machine.directory
    (gitlab,) = parsed(GITLAB).values()
    *installs, convert, verify = gitlab["script"]
    for name in ("Install edgeconv", "Convert"):
        item = step(GITHUB, name)
        done = machine.run(item["run"], item.get("env"))
        assert done.returncode == 0, done.stderr
    keep_baseline(machine)
    done = machine.run(step(GITHUB, "Verify")["run"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert machine.run(step(GITHUB, "Summary")["run"]).returncode == 0
    assert (work / "summary.md").read_text().startswith("### model: parity passed")
    kept = next(item for item in steps_of(GITHUB) if "upload-artifact" in item.get("uses", ""))
    paths = [*kept["with"]["path"].split(), *gitlab["artifacts"]["paths"]]
    assert all((work / path).is_file() for path in paths)

    # GitLab's job does the same; its last line, against a better baseline, fails.
    for line in installs:
        done = machine.run(line, gitlab["variables"])
        assert done.returncode == 0, done.stderr
    assert words(convert) == words(step(GITHUB, "Convert")["run"])
    keep_baseline(machine, better_db=5)
    (work / "parity.xml").unlink()
    done = machine.run(verify, gitlab["variables"])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "regression: " in done.stdout
    assert ET.parse(work / "parity.xml").getroot().get("failures") == "1"

    # The action, on the same bundle: its summary is written although it fails.
    inputs = {"BUNDLE": "model.edgeconv", "BASELINE": "baseline/parity.json", "JUNIT": "action.xml"}
    inputs["GATES"] = "tflite_int8:sqnr=90\nsaved_model:cosine=0.9"
    (work / "summary.md").write_text("")
    for name, code in (("Install edgeconv", 0), ("Verify", 1)):
        item = step(ACTION, name)
        done = machine.run(item["run"], {**item["env"], **inputs})
        assert done.returncode == code, done.stderr
    summary = (work / "summary.md").read_text()
    assert "PARITY FAILED at tflite\\_int8" in summary
    assert "regression: " in summary
    assert ET.parse(work / "action.xml").getroot().get("failures") == "1"
