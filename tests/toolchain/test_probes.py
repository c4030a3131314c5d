from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeconv.toolchain import probes


def _install(site: Path, version: str, files: list[str]) -> None:
    """Lay out what pip leaves of a package: its metadata and the list of its files."""
    info = site / f"pycoral-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pycoral\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in files))


def test_pypis_pycoral_is_told_from_googles(tmp_path: Path) -> None:
    _install(tmp_path / "pypi", "0.2.0", ["pycoral/__init__.py", "pycoral/app.py"])
    found = probes.pycoral([str(tmp_path / "pypi")])
    assert not found.works
    assert found.version == "0.2.0"
    assert found.problem == "this is PyPI's pycoral, which has nothing to do with Coral"
    assert "google-coral.github.io/py-repo" in found.next_step
    _install(tmp_path / "google", "2.0.0", ["pycoral/__init__.py", "pycoral/utils/edgetpu.py"])
    assert probes.pycoral([str(tmp_path / "google")]).works
    assert probes.pycoral([str(tmp_path)]).problem == "not installed"


@pytest.mark.parametrize(
    ("vendor", "product", "state"), [("1a6e", "089a", "before"), ("18d1", "9302", "ready")]
)
def test_usb_tpus_are_seen_before_and_after_firmware(
    tmp_path: Path, vendor: str, product: str, state: str
) -> None:
    assert probes.tpus(tmp_path).problem == "none is attached"
    device = tmp_path / "sys/bus/usb/devices/2-1"
    device.mkdir(parents=True)
    for name, text in (("idVendor", vendor), ("idProduct", product), ("busnum", "2")):
        (device / name).write_text(f"{text}\n")
    (device / "devnum").write_text("7\n")
    found = probes.tpus(tmp_path)
    assert not found.works
    assert "no udev rule" in found.problem
    node = tmp_path / "dev/bus/usb/002/007"
    node.parent.mkdir(parents=True)
    node.touch()
    found = probes.tpus(tmp_path)
    assert found.works
    assert state in found.where


def test_pcie_tpus_are_seen(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "apex_0").touch()
    assert probes.tpus(tmp_path).where == "PCIe apex_0"


def test_a_missing_library_is_a_problem_not_a_crash() -> None:
    assert "libnothing" in probes.libedgetpu("libnothing.so.1")["problem"]


@pytest.mark.slow
def test_doctor_says_what_the_target_lacks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgeconv", "doctor", "--json", "--target", "coral"]
    environment = {**os.environ, "EDGECONV_HOME": str(tmp_path / "home"), "PATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 4, done.stderr
    found = json.loads(done.stdout)
    assert found["served"] is False
    by_name = {item["name"]: item for item in found["components"]}
    assert by_name["TensorFlow"]["works"]
    assert not by_name["edgetpu_compiler"]["works"]
    assert by_name["onnx-tf"]["next_step"] == "edgeconv toolchain install onnx-tf"
    assert not (tmp_path / "home").exists()
