from __future__ import annotations

from pathlib import Path

import pytest

from edgeconv.core.errors import UsageError
from edgeconv.core.gate_files import gates_from, merged, read_gates


def test_short_names_and_stages() -> None:
    gates = gates_from(["sqnr=40", "tflite_int8:top1=0.9", "max_abs=1"], Path("/"))
    assert gates["all"] == {"sqnr_db": 40.0, "max_abs": 1.0}
    assert gates["tflite_int8"] == {"top1_agreement": 0.9}


def test_the_nearest_file_counts_and_the_command_line_wins(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "edgeconv.toml").write_text("[gates]\nsqnr = 10\n")
    (below.parent / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert read_gates(below) == {"all": {"sqnr_db": 10.0}}
    (below.parent / "pyproject.toml").write_text(
        "[tool.edgeconv.gates]\ncosine = 0.9\n[tool.edgeconv.gates.tflite_int8]\ntop1 = 1\n"
    )
    assert read_gates(below) == {"all": {"cosine": 0.9}, "tflite_int8": {"top1_agreement": 1.0}}
    assert gates_from(["tflite_int8:top1=0.5"], below)["tflite_int8"] == {"top1_agreement": 0.5}
    assert gates_from(["top1=0.7"], below) == {
        "all": {"cosine": 0.9, "top1_agreement": 0.7},
        "tflite_int8": {},
    }


@pytest.mark.parametrize(
    "text",
    [
        "[gates",
        "[gates]\nsqnr = 'high'\n",
        "[gates]\nsqnr = true\n",
        "[gates.tflite_int9]\nsqnr = 1\n",
        "[gates]\nspeed = 1\n",
        "[limits]\nsqnr = 1\n",
        "gates = 3\n",
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "edgeconv.toml").write_text(text)
    with pytest.raises(UsageError):
        read_gates(tmp_path)


def test_merging_leaves_its_sources_alone() -> None:
    first = {"onnx": {"cosine": 0.5}}
    assert merged(first, {"all": {"cosine": 0.9}}) == {"onnx": {}, "all": {"cosine": 0.9}}
    assert first == {"onnx": {"cosine": 0.5}}
