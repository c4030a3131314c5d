"""The compiler as a stage: with one, without one, and where it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgeconv import convert, targets
from edgeconv.core.artifacts import Artifact, Format, TensorSpec
from edgeconv.core.errors import CompilerRefused, UsageError
from edgeconv.core.options import ConvertOptions
from edgeconv.targets.coral import compile_stage
from edgeconv.targets.coral.compile_stage import Compile
from edgeconv.targets.coral.compiler.find import VARIABLE
from edgeconv.targets.options import options_of
from edgeconv.toolchain.worker.pool import WorkerPool
from edgeconv.toolchain.worker.stage import StageContext
from tests.targets.coral import pairs
from tests.targets.coral.conftest import StandIn

CORAL = targets.find("coral")
_INT8: dict[str, Any] = {"quantize": "int8", "io_dtype": "int8", "target": "coral"}


@pytest.fixture(autouse=True)
def no_compiler_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: name if "/" in name else None)
    monkeypatch.delenv(VARIABLE, raising=False)


def _source() -> Artifact:
    spec = TensorSpec.plain("input1", (1, 8, 8, 3), "uint8")
    return Artifact(Format.TFLITE, pairs.SMALL / "source.tflite", (spec,), ())


def _context(directory: Path, **options: Any) -> StageContext:
    return StageContext(options_of({**_INT8, **options}), WorkerPool(), directory, "m")


def test_without_a_compiler_there_is_no_stage_and_a_note_says_so() -> None:
    assert CORAL.stages(ConvertOptions(**_INT8)) == ()
    notes = CORAL.assess(_source()).notes
    assert "predicted: 3 of 3 operators" in notes[0]
    assert notes[-1] == compile_stage.skipped()
    assert "not compiled" in notes[-1]
    assert "edgeconv doctor --target coral says how to get it" in notes[-1]


def test_a_compiler_adds_a_stage(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = stand_in("good")
    monkeypatch.setenv(VARIABLE, str(compiler.program))
    assert list(CORAL.stages(ConvertOptions(**_INT8))) == [Compile(compiler)]


def test_wrong_options_are_refused_without_a_compiler_too() -> None:
    with pytest.raises(UsageError, match="use 10 to 14"):
        CORAL.stages(options_of({**_INT8, "min_runtime_version": 3}))


@pytest.mark.parametrize("options", [{"bisect": True}, {"compiler_image": "coral"}])
def test_a_cpu_has_no_compiler(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="needs a target with a compiler"):
        options_of(options)


def test_the_stage_compiles_and_tells_what_came_out(stand_in: StandIn, tmp_path: Path) -> None:
    context = _context(tmp_path)
    made = Compile(stand_in("good")).run(_source(), context)
    assert (made.format, made.path) == (Format.COMPILED, tmp_path / "source_edgetpu.tflite")
    assert made.inputs == _source().inputs
    assert context.details["compiled"]["on_edgetpu"] == 3
    (note,) = context.details["notes"]
    assert note.startswith("compiled by 16.0.384591198: 3 of 3 operators")


def test_a_failure_is_passed_on(stand_in: StandIn, tmp_path: Path) -> None:
    with pytest.raises(CompilerRefused, match="gives no reason") as caught:
        Compile(stand_in("fails_on_split")).run(_source(), _context(tmp_path))
    assert "operator 1" not in str(caught.value)


def test_on_request_the_failure_names_the_operator(stand_in: StandIn, tmp_path: Path) -> None:
    with pytest.raises(CompilerRefused, match=r"operator 1 \(SPLIT, .* triggers it"):
        Compile(stand_in("fails_on_split")).run(_source(), _context(tmp_path, bisect=True))


@pytest.mark.slow
def test_the_pipeline_ends_with_the_compiled_model(
    stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(stand_in("good").program))
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
    result = convert(
        network,
        (torch.rand(1, 3, 8, 8),),
        output=tmp_path / "b",
        **_INT8,
    )
    assert result.manifest["status"] == "complete"
    last = result.manifest["stages"][-1]
    assert (last["name"], last["format"]) == ("edgetpu", "edgetpu")
    assert last["file"].endswith("_int8_edgetpu.tflite")
    assert last["compiled"]["compiler"] == "16.0.384591198"
    assert (tmp_path / "b" / last["file"]).is_file()
    checked = {stage["stage"]: stage["status"] for stage in result.parity.to_dict()["stages"]}
    assert checked["tflite_int8"] == "pass"
    assert checked["edgetpu"] == "skipped"
