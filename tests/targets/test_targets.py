from __future__ import annotations

from pathlib import Path

import pytest

from edgeconv import targets
from edgeconv.core.errors import UsageError
from edgeconv.core.options import ConvertOptions


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
