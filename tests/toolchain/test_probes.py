from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgeconv.deploy.check import notes_on
from edgeconv.toolchain import probes
from edgeconv.toolchain.device import probe
from edgeconv.toolchain.device.job import Found

# The metadata of the package that PyPI has under that name.
PYPI = """Metadata-Version: 2.1
Name: pycoral
Version: 0.2.0
Summary: Simple CLI for Allen Coral Atlas
Author: Samapriya Roy
License: MIT
Requires-Dist: requests >=2.23.1
Requires-Dist: pandas >=2.1.1
"""


def _install(site: Path, folder: Path, files: dict[str, str]) -> None:
    """Build a wheel of the shape of PyPI's pycoral, and let pip install it."""
    info = "pycoral-0.2.0.dist-info"
    content = {
        **files,
        f"{info}/METADATA": PYPI,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\npycoral = pycoral.pycoral:main\n",
        f"{info}/top_level.txt": "pycoral\n",
    }
    wheel = folder / "pycoral-0.2.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in content))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, "--target", str(site), str(wheel)], check=True)


def test_pypis_pycoral_is_told_from_googles(tmp_path: Path) -> None:
    files = {"pycoral/__init__.py": "", "pycoral/pycoral.py": "def main(): ...\n"}
    _install(tmp_path / "pypi", tmp_path, files)
    found = probes.pycoral([str(tmp_path / "pypi")])
    assert not found.works
    assert (found.version, found.where) == ("0.2.0", str(tmp_path / "pypi"))
    assert "this is PyPI's pycoral" in found.problem
    assert "nothing to do with Google's Coral" in found.problem
    assert "google-coral.github.io/py-repo" in found.next_step
    note = notes_on(Found(pycoral=probe.pycoral([str(tmp_path / "pypi")])))
    assert found.problem in note[0]
    assert found.next_step in note[0]
    google = tmp_path / "google" / "pycoral" / "utils"
    google.mkdir(parents=True)
    (google / "edgetpu.py").touch()
    (tmp_path / "google" / "pycoral-2.0.0.egg-info").mkdir()
    assert probes.pycoral([str(tmp_path / "google")]).works
    assert probes.pycoral([str(tmp_path / "google")]).version == "2.0.0"
    assert notes_on(Found(pycoral=probe.pycoral([str(tmp_path / "google")]))) == []
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
