"""Options, said once: what the command line, a project's file and messages make of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeconv.commands.group import cli
from edgeconv.core.declare import rows, specs
from edgeconv.core.errors import ConversionError, UsageError, at_stage, error_from_dict
from edgeconv.core.job import Job
from edgeconv.core.options import ConvertOptions
from edgeconv.core.project_file import read_project_file
from edgeconv.core.wording import as_it_is, in_flags, in_python, named
from edgeconv.targets.options import every_option, options_of


def test_an_option_is_a_parameter_in_python_and_a_flag_on_the_command_line() -> None:
    text = f"{named('io_dtype')} needs {named('quantize', 'int8')} or {named('verify', False)}"
    text += f", {named('states', ['a=b', 'c=d'])}, {named('keep_int16')}"
    assert in_python(text) == (
        "io_dtype needs quantize=\"int8\" or verify=False, states=['a=b', 'c=d'], keep_int16"
    )
    flags = {"verify": "--no-verify", "states": "--state"}
    assert in_flags(flags)(text) == (
        "--io-dtype needs --quantize int8 or --no-verify, --state a=b --state c=d, --keep-int16"
    )


def test_an_error_keeps_its_options_on_its_way_through_a_process() -> None:
    error = ConversionError("no", hint=f"add {named('quantize', 'int8')}")
    crossed = error_from_dict(json.loads(json.dumps(at_stage("onnx", error).to_dict(as_it_is))))
    assert crossed.hint == 'add quantize="int8"'
    assert crossed.text(in_flags({})).endswith("next: add --quantize int8")
    assert "\ue000" not in json.dumps(crossed.to_dict(), ensure_ascii=False)


def test_the_same_mistake_is_told_in_the_words_of_either_side() -> None:
    with pytest.raises(UsageError, match=r"^timeout must be more than 0 seconds"):
        ConvertOptions(timeout=0)
    done = CliRunner().invoke(cli, ["torch2tflite", "m.pt2", "--timeout", "0"])
    assert done.exit_code == 2
    assert "error: --timeout must be more than 0 seconds, not 0" in done.stderr


def test_help_has_groups_and_begins_with_what_is_needed_most() -> None:
    text = CliRunner().invoke(cli, ["torch2tflite", "--help"]).stdout
    heads = [line[:-1] for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert heads == [
        "Needed most",
        "Model",
        "Calibration",
        "Precision",
        "Inputs and outputs",
        "Verification",
        "Target coral",
        "Running",
        "Output",
    ]
    first = text.partition("Needed most:")[2].partition("Model:\n")[0]
    flags = [line.split()[0] for line in first.splitlines() if line.startswith("  -")]
    wanted = ["--model", "--input-shape", "--quantize", "--calibration-data", "--target", "-o,"]
    assert flags == wanted
    for spec in (*specs(Job), *every_option()):
        assert f"{spec.flag} " in text


def test_the_table_of_the_documentation_names_every_option() -> None:
    table = "\n".join(rows(every_option()))
    assert "| `--calibration-samples N` | `calibration_samples` | 200 |" in table
    assert all(f"`{spec.name}`" in table for spec in every_option())


def test_an_option_of_another_target_is_refused_and_one_that_is_not_given_is_not() -> None:
    assert options_of({"cut": (), "bisect": False, "allow_approximate": True}) == ConvertOptions()
    with pytest.raises(UsageError) as caught:
        options_of({"bisect": True})
    assert caught.value.what == "bisect needs a target with a compiler"
    assert caught.value.hint == 'add target="coral", or leave it out'
    with pytest.raises(UsageError, match=r"no option quantise(.|\n)*did you mean quantize"):
        options_of({"quantise": "int8"})
    given = options_of({"target": "coral", "cut": ["a"]})
    assert given.to_dict()["cut"] == ["a"]
    with pytest.raises(UsageError, match="cut is a list of texts"):
        options_of({"target": "coral", "cut": "a"})


def test_a_file_sets_any_option_and_the_command_line_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeconv.pipeline import run

    np.savez(tmp_path / "samples.npz", x=np.zeros((2, 3, 8, 8), np.float32))
    (tmp_path / "pyproject.toml").write_text(
        "[tool.edgeconv]\nquantize = 'int8'\ncalibration-data = 'samples.npz'\nseed = 3\n"
        "verify = false\nkeep_float = ['ADD']\ninput-shapes = ['1,3,8,8']\ntimeout = 60\n"
        "image-mean = '0.5'\n"
        "[tool.edgeconv.gates]\ncosine = 0.9\nsqnr = 10\n"
        "[tool.edgeconv.targets.coral]\ncut = ['auto']\n"
    )
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    jobs: list[Job] = []

    def converted(job: Job, *_: object) -> None:
        jobs.append(job)
        raise UsageError("seen")

    monkeypatch.setattr(run, "convert", converted)
    for more in ([], ["--seed", "5", "--gate", "sqnr=20", "--quantize", "int16x8"]):
        done = CliRunner().invoke(cli, ["torch2tflite", "m.pt2", *more])
        assert "seen" in done.stderr, done.stderr
    file, line = jobs
    assert file.calibration_data == str(tmp_path / "samples.npz")
    assert file.input_shapes.positional == ((1, 3, 8, 8),)
    assert file.image_mean == (0.5,)
    assert (file.options.quantize, file.options.seed, file.options.verify) == ("int8", 3, False)
    assert (file.options.keep_float, file.options.timeout) == (("ADD",), 60)
    assert file.options.gates == {"all": {"cosine": 0.9, "sqnr_db": 10.0}}
    assert file.options.target_options is None
    assert (line.options.quantize, line.options.seed) == ("int16x8", 5)
    assert line.options.gates == {"all": {"cosine": 0.9, "sqnr_db": 20.0}}
    done = CliRunner().invoke(cli, ["torch2tflite", "m.pt2", "--target", "coral"])
    assert jobs[-1].options.to_dict()["cut"] == ["auto"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("quantise = 'int8'", "did you mean quantize"),
        ("seed = 'x'", "seed must be a whole number, not 'x'"),
        ("seed = true", "seed must be a whole number"),
        ("keep-float = 'ADD'", "keep_float must be a list of texts"),
        ("verify = 1", "verify must be true or false"),
        ("trust-pickle = true", "cannot be set in a file"),
        ("[targets]\ncoral = 1", "must hold tables"),
        ("[coral]\ncut = []", "[targets.NAME]"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "edgeconv.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_project_file(tmp_path)
    assert words in str(caught.value)
    assert "edgeconv.toml" in caught.value.where
