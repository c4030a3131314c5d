"""What was meant is said, before anything that takes time is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeconv import targets
from edgeconv.commands.group import cli
from edgeconv.core.errors import UsageError, meant
from edgeconv.core.gates import parse_gate
from edgeconv.core.options import ConvertOptions
from edgeconv.targets.coral.placement.followed import left
from edgeconv.targets.coral.placement.front_end import Objection
from edgeconv.targets.coral.placement.ops import REWRITES
from edgeconv.toolchain.worker.pool import WorkerPool


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--quantize", "INT8"), "did you mean int8"),
        (("--quantize", "int16"), "did you mean int16x8"),
        (("--calibrator", "min-max"), "did you mean minmax"),
        (("--io-dtype", "unit8"), "did you mean uint8"),
        (("--gate", "tflite_in8:sqnr=20"), "did you mean tflite_int8"),
        (("--gate", "sqrn=20"), "did you mean sqnr"),
        (("--gate", "tflite_int8:top-1=0.9"), "did you mean top1"),
    ],
)
def test_a_close_word_is_answered_with_what_was_meant(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr(WorkerPool, "start", lambda *kinds: started.append(kinds))
    model = tmp_path / "m.pt2"
    model.write_bytes(b"PK")
    done = CliRunner().invoke(cli, ["torch2tflite", str(model), *arguments])
    assert done.exit_code == 2
    assert words in done.stderr
    assert not started


def test_a_word_that_is_close_to_none_is_answered_with_all() -> None:
    assert meant("xyz", ("int8", "fp16")) == "use one of int8, fp16"
    with pytest.raises(UsageError) as caught:
        parse_gate("loss=1")
    assert "use one of sqnr, top1, sqnr_db" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [("edgetpu", "coral"), ("tpu", "coral"), ("Coral", "coral"), ("litert", "cpu"), ("CPU", "cpu")],
)
def test_what_a_target_is_also_called_leads_to_it(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        targets.find(name)
    assert caught.value.hint.startswith(f"did you mean {hint}?")


def test_options_from_python_are_answered_likewise() -> None:
    with pytest.raises(UsageError) as caught:
        ConvertOptions(quantize="Int8")  # type: ignore[arg-type]
    assert caught.value.hint.startswith("did you mean int8? use one of none, ")


def test_advice_that_was_followed_is_not_given_again() -> None:
    for advice in REWRITES.values():
        assert "convert with --target coral" not in left(advice)
    objection = Objection(
        0, "CONV_2D", "", "it is a grouped convolution: convert with --target coral"
    )
    assert "--cut" in left(objection.advice)
    assert "--io-layout" not in left("keep images channels last: --io-layout nhwc")
    assert left("slice instead") == "slice instead"
    assert left(REWRITES["GELU"]).startswith("add --allow-approximate")
