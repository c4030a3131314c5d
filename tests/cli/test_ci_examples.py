"""The steps of the jobs in `examples/ci` and of `action.yml`, run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def step(path: Path, name: str) -> str:
    """Return the shell script of a step: the lines that are indented below its ``run: |``."""
    text = path.read_text().split(f"- name: {name}\n", 1)[1]
    lines = text.split("run: |\n", 1)[1].splitlines()
    depth = len(lines[0]) - len(lines[0].lstrip())
    block = []
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) < depth:
            break
        block.append(line)
    return textwrap.dedent("\n".join(block))


@pytest.fixture
def workspace(digits_bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(digits_bundle, tmp_path / "model.edgeconv")
    (tmp_path / "baseline").mkdir()
    shutil.copy(digits_bundle / "parity.json", tmp_path / "baseline")
    program = tmp_path / "edgeconv" / "bin" / "edgeconv"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edgeconv "$@"\n')
    program.chmod(0o755)
    return tmp_path


def run(script: str, workspace: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{workspace / 'edgeconv' / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=workspace,
        env={
            **os.environ,
            "PATH": path,
            "PYTHONPATH": str(ROOT),
            "RUNNER_TEMP": str(workspace),
            "GITHUB_STEP_SUMMARY": str(workspace / "summary.md"),
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_steps_of_the_github_job(workspace: Path) -> None:
    path = ROOT / "examples" / "ci" / "github.yml"
    done = run(step(path, "Verify"), workspace)
    assert done.returncode == 0, done.stderr
    assert (workspace / "parity.xml").is_file()
    assert (workspace / "parity.md").read_text().startswith("### digits: parity passed")


@pytest.mark.slow
def test_the_action_passes_on_the_exit_code_and_writes_its_summary(workspace: Path) -> None:
    done = run(
        step(ROOT / "action.yml", "Verify"),
        workspace,
        BUNDLE="model.edgeconv",
        BASELINE="baseline/parity.json",
        GATES="tflite_int8:sqnr=70 tflite_int8:top1=0.9",
        JUNIT="parity.xml",
    )
    assert done.returncode == 1, done.stderr
    assert "PARITY FAILED at tflite" in (workspace / "summary.md").read_text()
    assert (workspace / "parity.xml").is_file()


def test_no_job_installs_from_an_index_what_is_not_there() -> None:
    for path in (ROOT / "examples" / "ci").glob("*.yml"):
        assert not re.search(r"pip install edgeconv", path.read_text())
        assert 'pip install "$EDGECONV"' in path.read_text()
