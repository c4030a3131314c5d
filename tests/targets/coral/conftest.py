"""Fixtures for the tests of the Coral target."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeconv.targets.coral.compiler.find import PROGRAM, Compiler

ROOT = Path(__file__).resolve().parents[3]

StandIn = Callable[[str], Compiler]


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    """Return what makes the test double play a scenario."""

    def make(scenario: str) -> Compiler:
        program = tmp_path / "bin" / PROGRAM
        program.parent.mkdir(exist_ok=True)
        script = ROOT / "tests" / "targets" / "coral" / "stand_in_compiler.py"
        program.write_text(
            f"#!/bin/sh\nPYTHONPATH='{ROOT}' exec '{sys.executable}' '{script}' {scenario} \"$@\"\n"
        )
        program.chmod(0o755)
        return Compiler(program)

    return make
