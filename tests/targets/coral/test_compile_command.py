"""`edgeconv compile`, with the test double of the compiler."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgeconv.commands.compile import compile_command
from edgeconv.commands.group import cli
from edgeconv.targets.coral.compiler import run
from edgeconv.targets.coral.compiler.find import VARIABLE
from tests.targets.coral.conftest import StandIn

_SOURCE = Path(__file__).parent / "data" / "split_concat" / "source.tflite"


def _run(monkeypatch: pytest.MonkeyPatch, program: Path | None, *arguments: str) -> Result:
    if program is None:
        monkeypatch.delenv(VARIABLE, raising=False)
        monkeypatch.setenv("PATH", "/nonexistent")
    else:
        monkeypatch.setenv(VARIABLE, str(program))
    return CliRunner().invoke(cli, ["compile", *arguments])


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    """Return two models of different names."""
    paths = [tmp_path / f"{name}.tflite" for name in "ab"]
    for path in paths:
        shutil.copyfile(_SOURCE, path)
    return [str(path) for path in paths]


def test_models_are_compiled_together(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, models: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "out"
    result = _run(monkeypatch, stand_in("good").program, *models, "-o", str(out))
    assert result.exit_code == 0, result.output
    assert {"a_edgetpu.tflite", "b_edgetpu.tflite"} <= {path.name for path in out.iterdir()}
    assert result.stdout.count("3 of 3 on the Edge TPU") == 2


def test_segments_are_listed(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, models: list[str], tmp_path: Path
) -> None:
    options = ("--num-segments", "2", "-o", str(tmp_path / "out"), "--json")
    result = _run(monkeypatch, stand_in("good").program, models[0], *options)
    assert result.exit_code == 0, result.output
    names = [model["file"] for model in json.loads(result.stdout)["models"]]
    assert names == ["a_segment_0_of_2_edgetpu.tflite", "a_segment_1_of_2_edgetpu.tflite"]


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (["--min-runtime-version", "12"], "--min_runtime_version 12"),
        (
            ["--search-delegate", "--delegate-search-step", "30"],
            "--search_delegate --delegate_search_step 30",
        ),
        (["--multiple-subgraphs"], "--enable_multiple_subgraphs"),
        (["--intermediate-tensors", "x,y"], "--intermediate_tensors x,y"),
        (["--timeout", "50"], "--timeout_sec 50"),
    ],
)
def test_options_reach_the_compiler(
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    models: list[str],
    tmp_path: Path,
    options: list[str],
    flags: str,
) -> None:
    real, heard = stand_in("good").program, tmp_path / "heard"
    spy = tmp_path / "spy"
    spy.write_text(f"#!/bin/sh\necho \"$*\" >> '{heard}'\nexec '{real}' \"$@\"\n")
    spy.chmod(0o755)
    result = _run(monkeypatch, spy, models[0], "-o", str(tmp_path), *options)
    assert result.exit_code == 0, result.output
    assert flags in heard.read_text()


def test_the_operator_that_it_fails_on_is_named(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, models: list[str], tmp_path: Path
) -> None:
    options = ("-o", str(tmp_path / "out"), "--bisect")
    result = _run(monkeypatch, stand_in("fails_on_split").program, models[0], *options)
    assert result.exit_code == 3, result.output
    assert "SPLIT" in result.stderr
    assert "triggers it" in " ".join(result.stderr.split())
    assert not list((tmp_path / "out").glob("*.tflite"))


def test_without_a_compiler_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, models: list[str]
) -> None:
    result = _run(monkeypatch, None, models[0])
    assert result.exit_code == 4
    assert "apt repository" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "options",
    [["--num-segments", "2"], ["--bisect"], ["--intermediate-tensors", "x"], ["--timeout", "0"]],
)
def test_options_that_do_not_fit_are_refused(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, models: list[str], options: list[str]
) -> None:
    result = _run(monkeypatch, stand_in("good").program, *models, *options)
    assert result.exit_code == 2, result.output


def test_bundles_without_an_int8_model_are_refused(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = _run(monkeypatch, stand_in("good").program, str(tmp_path))
    assert result.exit_code == 2, result.output


def test_the_advice_of_a_time_out_is_an_option_that_there_is() -> None:
    advised = set(re.findall(r"--[a-z-]+", Path(run.__file__).read_text()))
    known = {name for option in compile_command.params for name in option.opts}
    assert advised & known == {"--memory-limit", "--timeout"}
    assert "--compile-timeout" not in advised
