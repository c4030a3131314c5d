from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeconv import targets
from edgeconv.commands.group import cli
from edgeconv.core.artifacts import Artifact, Format
from edgeconv.core.declare import About, option
from edgeconv.core.errors import NotOffered, UsageError
from edgeconv.core.options import ConvertOptions, TargetOptions
from edgeconv.targets.base import BaseTarget, Target
from edgeconv.targets.compile_stage import run_of
from edgeconv.targets.compiling import CompilerRun, Setting

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", targets.names())
def test_targets_are_found_by_their_name(name: str) -> None:
    assert targets.find(name).name == name


def test_unknown_targets_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="use one of cpu"):
        targets.find("toaster")


def test_the_cpu_takes_every_model_as_it_is() -> None:
    options = ConvertOptions(quantize="fp16")
    assert targets.find("cpu").adapt(options) == options
    assert targets.find("cpu").float_stages(options) == ()
    assert targets.find("cpu").stages(options) == ()


def _installed(folder: Path, value: str) -> None:
    """Write a package that adds a target called ``toaster``."""
    info = folder / "toasters-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toasters\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[edgeconv.targets]\ntoaster = {value}\n")
    (folder / "toasters.py").write_text(
        "from edgeconv.targets.cpu import Cpu\nclass Toaster(Cpu):\n    name = 'toaster'\n"
    )


def test_other_packages_add_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(tmp_path, "toasters:Toaster")
    monkeypatch.syspath_prepend(tmp_path)
    assert "toaster" in targets.names()
    assert targets.find("toaster").name == "toaster"


@pytest.mark.parametrize("value", ["toasters:Kettle", "kettles:Kettle", "toasters:Cpu"])
def test_a_broken_package_says_so_and_leaves_the_other_targets(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed(tmp_path, value)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="cannot be loaded"):
        targets.find("toaster")
    assert targets.find("cpu").name == "cpu"


_WORDS = re.compile(r"coral|edge[ _-]?tpu", re.IGNORECASE)


def test_only_the_target_knows_its_device() -> None:
    found = []
    for folder in ("edgeconv", "convert", "quantize", "toolchain"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_symlink() or path.suffix not in (".py", ".html", ".json"):
                continue
            if "targets" in path.relative_to(ROOT).parts:
                continue
            lines = enumerate(path.read_text().splitlines(), 1)
            found += [f"{path}:{number}: {line}" for number, line in lines if _WORDS.search(line)]
    assert not found, "\n".join(found)


def _artifact(**more: str) -> Artifact:
    data = {"path": "m_int8_edgetpu.tflite", "inputs": [], "outputs": [], **more}
    return Artifact.from_dict(data)


def test_compiled_artifacts_know_their_target() -> None:
    before = _artifact(format="edgetpu")
    assert before.format is Format.COMPILED
    assert targets.of(before) is targets.find("coral")
    assert before.to_dict()["format"] == "edgetpu"
    now = Artifact(Format.TFLITE, before.path, (), ()).compiled(before.path, "coral", "edgetpu")
    assert _artifact(**now.to_dict()) == now
    assert (now.to_dict()["format"], now.to_dict()["target"]) == ("edgetpu", "coral")
    assert targets.is_for(now, targets.find("coral"))
    assert not targets.is_for(now, targets.find("cpu"))
    with pytest.raises(UsageError, match="compiled for toaster, a target that is not installed"):
        targets.of(_artifact(format="compiled", target="toaster"))


class _Small(BaseTarget):
    name = "small"


def test_a_target_that_says_nothing_but_its_name_guesses_nothing(tmp_path: Path) -> None:
    target: Target = _Small()
    with pytest.raises(NotOffered, match="predicts nothing"):
        target.placement(tmp_path / "m.tflite", converted=False)
    with pytest.raises(NotOffered, match="has no compiler"):
        target.compile([], tmp_path, CompilerRun())
    assert (target.label, target.place, target.suffix) == ("small", "small", "_small.tflite")
    assert target.describe(tmp_path / "m.tflite") is None
    assert target.probes() == ()
    assert target.device_part() is None


def test_a_cpu_refuses_to_compile() -> None:
    source = ROOT / "tests" / "targets" / "coral" / "data" / "split_concat" / "source.tflite"
    done = CliRunner().invoke(cli, ["compile", str(source), "--target", "cpu"])
    assert done.exit_code == 2
    assert "--target cpu has no compiler" in done.stderr


def test_what_is_compiled_for_one_target_runs_on_no_other() -> None:
    compiled = ROOT / "tests" / "targets" / "coral" / "data" / "split_concat" / "compiled.tflite"
    done = CliRunner().invoke(cli, ["inspect", str(compiled), "--target", "cpu"])
    assert done.exit_code == 2
    assert "compiled for the Edge TPU runs nowhere else" in done.stderr


@dataclass(frozen=True, slots=True)
class ToasterOptions(TargetOptions):
    heat: int | None = option(None, About("Target toaster", "How hot."))
    mode: str = option("bread", About("Target toaster", "For what."))


def test_a_conversion_hands_its_target_s_options_to_the_compiler() -> None:
    class Toaster(BaseTarget):
        name = "toaster"
        options = ToasterOptions
        settings = (Setting("heat", "How hot.", type=int), Setting("slices", "How many.", type=int))

    options = ConvertOptions(target_options=ToasterOptions(heat=3))
    assert run_of(Toaster(), options).settings == {"heat": 3}
    assert run_of(Toaster(), ConvertOptions()).settings == {}
