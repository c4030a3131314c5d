"""Running the compiler, played by a test double: what comes out, and every way to fail."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgeconv.core.errors import (
    BadCompilerOutput,
    CompilerCrashed,
    CompilerError,
    CompilerRefused,
    CompilerTimeout,
    NothingMapped,
    ToolMissing,
    UsageError,
)
from edgeconv.targets.coral.compiler import find as finding
from edgeconv.targets.coral.compiler.bisect import beginning, find_trigger
from edgeconv.targets.coral.compiler.check import compare
from edgeconv.targets.coral.compiler.compile import compile_model, compile_models
from edgeconv.targets.coral.compiler.find import Compiler
from edgeconv.targets.coral.compiler.options import CompileOptions
from edgeconv.targets.coral.compiler.run import version_of
from edgeconv.tflite import file as tflite
from tests.targets.coral import pairs
from tests.targets.coral.conftest import StandIn

_SOURCE, _COMPILED = pairs.SMALL / "source.tflite", pairs.SMALL / "compiled.tflite"


def _out(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    return out


@pytest.mark.parametrize(("scenario", "version"), [("good", "16.0."), ("v15", "15.0.")])
def test_a_model_is_compiled_and_checked(
    stand_in: StandIn, tmp_path: Path, scenario: str, version: str
) -> None:
    out = _out(tmp_path)
    found = compile_model(_SOURCE, out, compiler=stand_in(scenario))
    assert found.path == out / "source_edgetpu.tflite"
    assert found.path.read_bytes() == _COMPILED.read_bytes()
    assert found.log.is_file()
    assert sorted(path.name for path in out.iterdir()) == [
        "source_edgetpu.log",
        "source_edgetpu.tflite",
    ]
    assert found.version.startswith(version)
    assert found.report.milliseconds == 3438
    assert found.report.on_edgetpu == 3
    assert [row.op for row in found.report.statuses] == ["CONCATENATION", "SPLIT"]
    assert found.comparison.on_edgetpu == 3
    assert not found.comparison.surprises
    assert found.to_dict()["cached_parameter_bytes"] == 192


def test_names_that_look_like_options_are_not_taken_for_them(
    stand_in: StandIn, tmp_path: Path
) -> None:
    model = tmp_path / "--out_dir x:y,z.tflite"
    model.write_bytes(_SOURCE.read_bytes())
    found = compile_model(model, _out(tmp_path), compiler=stand_in("good"))
    assert found.path.name == "out_dir_x_y_z_edgetpu.tflite"
    assert found.source == model


def test_models_are_compiled_together(stand_in: StandIn, tmp_path: Path) -> None:
    other = tmp_path / "other.tflite"
    other.write_bytes(_SOURCE.read_bytes())
    found = compile_models([_SOURCE, other], _out(tmp_path), compiler=stand_in("good"))
    assert [model.path.name for model in found] == [
        "source_edgetpu.tflite",
        "other_edgetpu.tflite",
    ]
    assert [model.source for model in found] == [_SOURCE, other]


def test_a_model_is_cut_into_segments(stand_in: StandIn, tmp_path: Path) -> None:
    options = CompileOptions(num_segments=2)
    found = compile_models([_SOURCE], _out(tmp_path), options, stand_in("good"))
    assert [model.path.name for model in found] == [
        "source_segment_0_of_2_edgetpu.tflite",
        "source_segment_1_of_2_edgetpu.tflite",
    ]
    assert all(model.source.is_file() for model in found)


@pytest.mark.parametrize(
    ("scenario", "kind", "words"),
    [
        ("not_quantized", CompilerRefused, "no activation has 8 bits"),
        ("version", CompilerRefused, "newer than the compiler"),
        ("builtin", CompilerRefused, "does not exist in the compiler"),
        ("dynamic", CompilerRefused, "known at run time only"),
        ("large", CompilerRefused, "memory of the tiles"),
        ("internal", CompilerRefused, "gives no reason"),
        ("old_internal", CompilerRefused, "gives no reason"),
        ("unexplained", CompilerRefused, "says no more than that"),
        ("own_timeout", CompilerTimeout, "time limit passed"),
        ("crash", CompilerCrashed, "SIGSEGV"),
        ("wrapper_crash", CompilerCrashed, "Segmentation fault"),
        ("silent", CompilerCrashed, "without a word"),
        ("no_output", BadCompilerOutput, "wrote no model"),
        ("stub", BadCompilerOutput, "not a TFLite model"),
        ("nothing", NothingMapped, "2 x CONCATENATION: Operation is working on an unsupported"),
    ],
)
def test_failures_are_typed_and_say_what_to_do(
    stand_in: StandIn, tmp_path: Path, scenario: str, kind: type[CompilerError], words: str
) -> None:
    out = _out(tmp_path)
    with pytest.raises(kind) as caught:
        compile_model(_SOURCE, out, compiler=stand_in(scenario))
    assert words in str(caught.value)
    assert caught.value.hint
    assert not list(out.iterdir())


def test_a_compiler_that_hangs_is_stopped_with_its_children(
    stand_in: StandIn, tmp_path: Path
) -> None:
    began = time.monotonic()
    with pytest.raises(CompilerTimeout, match="within 3 seconds"):
        compile_model(_SOURCE, _out(tmp_path), CompileOptions(timeout=3), stand_in("hang"))
    assert time.monotonic() - began < 60
    until = time.monotonic() + 20  # a busy machine takes a while to end what was killed
    while _working_in(tmp_path / "out") and time.monotonic() < until:
        time.sleep(0.1)
    assert not _working_in(tmp_path / "out")


def test_a_compiler_that_takes_too_much_memory_is_stopped(
    stand_in: StandIn, tmp_path: Path
) -> None:
    with pytest.raises(CompilerCrashed, match=r"more than 1 MB .*\n.*--memory-limit"):
        compile_model(_SOURCE, _out(tmp_path), CompileOptions(memory=1 << 20), stand_in("hang"))


def _working_in(folder: Path) -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/cwd") if str(folder) in _link(path)]


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def test_another_model_is_not_taken_for_the_compiled_one(stand_in: StandIn, tmp_path: Path) -> None:
    cut = tmp_path / "cut.tflite"
    tflite.save(beginning(tflite.load(_SOURCE), 1), cut)
    with pytest.raises(BadCompilerOutput, match="other outputs than its source"):
        compile_model(cut, _out(tmp_path), compiler=stand_in("other_model"))


def test_compiled_models_are_not_compiled_again(stand_in: StandIn, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="compiled already"):
        compile_model(_COMPILED, _out(tmp_path), compiler=stand_in("good"))


def test_the_operator_that_triggers_a_failure_is_found(stand_in: StandIn, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    found = find_trigger(
        _SOURCE, stand_in("fails_on_split"), progress=lambda *step: heard.append(step)
    )
    assert found is not None
    assert (found.index, found.op) == (1, "SPLIT")
    assert "Internal error" in found.error
    assert heard[-1][0] == heard[-1][1]
    assert "operator 1 (SPLIT" in str(found)


def test_there_is_no_trigger_where_nothing_fails(stand_in: StandIn) -> None:
    assert find_trigger(_SOURCE, stand_in("good")) is None


@pytest.mark.parametrize("count", [1, 2, 3])
def test_beginnings_of_a_model_are_models(tmp_path: Path, count: int) -> None:
    from ai_edge_litert.interpreter import Interpreter

    part = beginning(tflite.load(_SOURCE), count)
    assert len(part.subgraphs[0].operators) == count
    interpreter = Interpreter(model_content=bytes(tflite.serialize(part)))
    interpreter.allocate_tensors()
    interpreter.invoke()


@pytest.mark.parametrize("folder", pairs.folders(), ids=lambda folder: folder.name)
def test_real_output_is_compared_operator_by_operator(folder: Path) -> None:
    found = compare(folder / "source.tflite", folder / "compiled.tflite")
    assert [fate.placement for fate in found.fates] == [
        op["placement"] for op in pairs.truth(folder)["ops"]
    ]
    assert not found.surprises


def test_the_version_is_asked_for(stand_in: StandIn) -> None:
    assert version_of(stand_in("good")) == "16.0.384591198"


def test_the_compilers_own_limit_follows_ours_where_it_has_one() -> None:
    options = CompileOptions(timeout=900)
    assert "900" in options.arguments(["m.tflite"], "16.0.384591198")
    assert "--timeout_sec" not in options.arguments(["m.tflite"], "15.0.340273435")


def test_options_become_flags() -> None:
    options = CompileOptions(
        min_runtime_version=13,
        search_delegate=True,
        search_step=30,
        intermediate_tensors=(("a", "b"), ("c",)),
        multiple_subgraphs=True,
    )
    assert " ".join(options.arguments(["x.tflite", "y.tflite"])) == (
        "--min_runtime_version 13 --search_delegate --delegate_search_step 30 "
        "--intermediate_tensors a,b:c --enable_multiple_subgraphs "
        "--out_dir . --show_operations x.tflite y.tflite"
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"min_runtime_version": 9}, "use 10 to 14"),
        ({"num_segments": 0}, "at least 1"),
        ({"search_step": 0}, "at least 1"),
        ({"timeout": 0.0}, "more than 0"),
        ({"num_segments": 2, "intermediate_tensors": (("a",),)}, "exclude each other"),
        ({"intermediate_tensors": (("a:0",),)}, "commas and colons"),
    ],
)
def test_options_that_cannot_work_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        CompileOptions(**values)  # type: ignore[arg-type]


def test_options_must_fit_the_number_of_models() -> None:
    with pytest.raises(UsageError, match="compiled together"):
        CompileOptions(num_segments=2).require_for(2)
    with pytest.raises(UsageError, match="1 lists"):
        CompileOptions(intermediate_tensors=(("a",),)).require_for(2)


def test_the_compiler_is_found_by_its_variable_and_on_path(stand_in: StandIn) -> None:
    program = stand_in("good").program
    by_path = finding.find(environment={"PATH": str(program.parent)})
    by_name = finding.find(environment={"PATH": "", finding.VARIABLE: str(program)})
    assert by_path == by_name == Compiler(program)


def test_no_compiler_is_no_error_until_one_is_required() -> None:
    assert finding.find(environment={"PATH": ""}) is None
    with pytest.raises(ToolMissing, match="coral-edgetpu-stable"):
        finding.require(environment={"PATH": ""})


def test_a_wrong_variable_is_the_callers_error() -> None:
    with pytest.raises(UsageError, match="not a program"):
        finding.find(environment={"PATH": "", finding.VARIABLE: "/nowhere"})


def test_an_image_needs_an_engine_and_a_name(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match="neither docker nor podman"):
        finding.find("coral", environment={"PATH": ""})
    with pytest.raises(UsageError, match="container image"):
        finding.find("--privileged", environment={"PATH": ""})
    podman = tmp_path / "podman"
    podman.write_text("#!/bin/sh\n")
    podman.chmod(0o755)
    found = finding.find("coral:16", environment={"PATH": str(tmp_path)})
    assert found is not None
    command = found.command(["m.tflite"], Path("/x"), "box")
    assert command[:2] == [str(podman), "run"]
    assert {"--network=none", "--volume=/x:/work", "--name=box"} <= set(command)
    assert command[-2:] == ["coral:16", "m.tflite"]
    assert found.stop_command("box") == [str(podman), "kill", "box"]


def test_a_program_that_cannot_start_is_a_missing_tool(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    with pytest.raises(ToolMissing, match="cannot be started"):
        compile_model(_SOURCE, _out(tmp_path), compiler=Compiler(broken))


_ENGINE = """#!/bin/sh
# A test double of docker: runs the image's program in the mounted directory, without a container.
echo "$@" >> '{log}'
[ "$1" = run ] || exit 0
for word in "$@"; do
  shift
  case "$word" in
    --volume=*) mounted="${{word#--volume=}}" ;;
    image) break ;;
  esac
done
cd "${{mounted%:/work}}" && exec '{program}' "$@"
"""


def _engine(program: Path, tmp_path: Path) -> tuple[Compiler, Path]:
    docker, log = tmp_path / "docker", tmp_path / "docker.log"
    docker.write_text(_ENGINE.format(log=log, program=program))
    docker.chmod(0o755)
    return Compiler(docker, "image"), log


def test_an_image_compiles_in_its_own_directory(stand_in: StandIn, tmp_path: Path) -> None:
    compiler, log = _engine(stand_in("good").program, tmp_path)
    found = compile_model(_SOURCE, _out(tmp_path), compiler=compiler)
    assert found.path.read_bytes() == _COMPILED.read_bytes()
    runs = log.read_text().splitlines()
    assert len(runs) == 2
    assert all("--network=none" in line for line in runs)


def test_a_container_that_hangs_is_killed_by_its_name(stand_in: StandIn, tmp_path: Path) -> None:
    compiler, log = _engine(stand_in("hang").program, tmp_path)
    with pytest.raises(CompilerTimeout):
        compile_model(_SOURCE, _out(tmp_path), CompileOptions(timeout=2), compiler)
    run, kill = log.read_text().splitlines()[-2:]
    name = kill.removeprefix("kill ")
    assert name.startswith("edgeconv-")
    assert f"--name={name} " in run
