"""The benchmark of reported cases judges by figures of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import cases
from benchmarks.cases_run import figures, joined


def test_dead_scores_beside_boxes_in_pixels_are_seen() -> None:
    rng = np.random.default_rng(0)
    boxes, scores = rng.random((4, 4, 50)) * 320, rng.random((4, 3, 50))
    reference = np.concatenate([boxes, scores], 1)
    dead = np.concatenate([boxes, np.zeros_like(scores)], 1)
    found = figures(reference, dead)
    assert found["db"] > 40
    assert found["worst_db"] <= 0.01
    assert not cases.holds("int8", found)
    assert cases.verdict(0, "int8", {"y": found}) == "WRONG: passed"
    assert cases.verdict(1, "int8", {"y": found}) == "failed, and said so"
    exact = figures(reference, reference)
    assert cases.verdict(0, "float", {"y": exact}) == "right"
    assert cases.verdict(1, "float", {"y": exact}) == "failed, though right"


def test_integers_are_judged_by_how_many_are_equal() -> None:
    found = figures(np.arange(10), np.r_[np.arange(9), 3])
    assert found == {"equal": 0.9}
    assert cases.holds("int8", found)
    assert not cases.holds("float", found)
    assert not cases.holds("int8", figures(np.zeros((2, 3)), np.zeros((2, 4))))


def test_values_that_are_lost_do_not_hold_whatever_their_decibels() -> None:
    reference = np.linspace(1, 1.01, 200).reshape(2, 100)
    found = figures(reference, np.ones_like(reference))
    assert found["db"] > 30
    assert not cases.holds("int8", found)


def test_a_source_in_half_precision_is_known_to_half_precision() -> None:
    exact = np.random.default_rng(0).normal(size=(2, 100))
    half = exact.astype(np.float16)
    assert cases.holds("float", figures(half, exact))
    assert not cases.holds("float", figures(half.astype(np.float32), exact))
    assert not cases.holds("float", figures(half, exact + 0.01))


def test_the_table_keeps_what_earlier_runs_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text("")
    asked: list[tuple[str, tuple[str, ...]]] = []

    def run_case(case: Path, modes: list[str]) -> list[cases.Outcome]:
        asked.append((case.stem, tuple(modes)))
        verdict = "right" if case.stem == "a" else "WRONG: passed"
        return [
            {"case": case.stem, "mode": mode, "verdict": verdict, "said": "/tmp/a/x|y"}
            for mode in modes
        ]

    monkeypatch.setattr(cases, "run_case", run_case)
    command = ["cases", str(tmp_path), "--output", str(tmp_path / "table")]

    def run(*more: str) -> int:
        monkeypatch.setattr("sys.argv", [*command, *more])
        with pytest.raises(SystemExit) as end:
            cases.main()
        assert isinstance(end.value.code, int)
        return end.value.code

    assert run("--match", "a", "--modes", "int8") == 0
    assert run("--resume", "--modes", "float,int8") == 1
    assert asked == [("a", ("int8",)), ("a", ("float",)), ("b", ("float", "int8"))]
    text = (tmp_path / "table.md").read_text()
    assert text.count("| a |") == text.count("| b |") == 2
    assert "| b | int8 | WRONG: passed |  | x/y |" in text
    assert "2 right, 2 WRONG: passed" in text


def test_outputs_that_were_split_are_put_together() -> None:
    whole = np.arange(10).reshape(1, 5, 2)
    parts = {"a": whole[:, [0, 2, 4]], "b": whole[:, [1, 3]]}
    join = {
        "output": "y",
        "axis": 1,
        "parts": [
            {"name": "a", "slices": [[0, 5, 2]]},
            {"name": "b", "slices": [[1, 4, 2]]},
        ],
    }
    assert np.array_equal(joined(join, parts), whole)


CASE = """import os
import numpy as np
import torch
NAME = os.path.splitext(os.path.basename(__file__))[0]
class M(torch.nn.Module):
    def forward(self, x): return torch.relu(x) + 1
x = torch.rand(1, 8)
torch.export.save(torch.export.export(M().eval(), (x,)), NAME + ".pt2")
np.savez(NAME + ".npz", x=np.random.rand(12, 1, 8).astype(np.float32))
"""


@pytest.mark.slow
def test_a_case_is_built_converted_and_run(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(CASE)
    (tmp_path / "own.py").write_text("print('one')\nprint('two')\n")
    (outcome,) = cases.run_case(tmp_path / "small.py", ["int8"])
    assert outcome["verdict"] == "right", outcome
    assert min(item["worst_db"] for item in outcome["figures"].values()) > 30
    assert "| small | int8 | right |" in cases.table([cases.row(outcome)])
    (own,) = cases.run_case(tmp_path / "own.py", ["int8"])
    assert own["said"] == "one | two"
