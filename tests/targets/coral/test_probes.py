from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgeconv.targets.coral import device_part, probes
from edgeconv.toolchain.device import probe
from edgeconv.toolchain.environments.specs import find
from edgeconv.toolchain.worker.process import Worker

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


def _look(site: Path) -> dict[str, Any]:
    return device_part.look([str(site)], probe.folder_of, probe.version_of)


def test_pypis_pycoral_is_told_from_googles(tmp_path: Path) -> None:
    files = {"pycoral/__init__.py": "", "pycoral/pycoral.py": "def main(): ...\n"}
    _install(tmp_path / "pypi", tmp_path, files)
    found = probes.pycoral([str(tmp_path / "pypi")])
    assert not found.works
    assert (found.version, found.where) == ("0.2.0", str(tmp_path / "pypi"))
    assert "this is PyPI's pycoral" in found.problem
    assert "nothing to do with Google's Coral" in found.problem
    assert "google-coral.github.io/py-repo" in found.next_step
    note = probes.notes_on(_look(tmp_path / "pypi"))
    assert found.problem in note[0]
    assert found.next_step in note[0]
    google = tmp_path / "google" / "pycoral" / "utils"
    google.mkdir(parents=True)
    (google / "edgetpu.py").touch()
    (tmp_path / "google" / "pycoral-2.0.0.egg-info").mkdir()
    assert probes.pycoral([str(tmp_path / "google")]).works
    assert probes.pycoral([str(tmp_path / "google")]).version == "2.0.0"
    assert probes.notes_on(_look(tmp_path / "google")) == []
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
    rules = tmp_path / "lib/udev/rules.d/60-libedgetpu1-std.rules"
    assert not probes.udev_rule(tmp_path).works
    rules.parent.mkdir(parents=True)
    rules.write_text('SUBSYSTEM=="usb",ATTRS{idVendor}=="1a6e",ATTRS{idProduct}=="089a"\n')
    assert probes.udev_rule(tmp_path).where == str(rules)
    assert "there is a udev rule" in probes.tpus(tmp_path).problem
    node = tmp_path / "dev/bus/usb/002/007"
    node.parent.mkdir(parents=True)
    node.touch()
    found = probes.tpus(tmp_path)
    assert found.works
    assert state in found.where


def test_pcie_tpus_are_seen(tmp_path: Path) -> None:
    device = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1ac1\n")
    (device / "device").write_text("0x089a\n")
    undriven = probes.tpus(tmp_path)
    assert undriven.where == "PCIe 0000:01:00.0"
    assert "driver is not loaded" in undriven.problem
    assert "gasket-dkms" in undriven.next_step
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "apex_0").touch()
    assert probes.tpus(tmp_path).where == "PCIe apex_0"


@pytest.mark.parametrize("clock", ["std", "max"])
def test_the_clock_of_libedgetpu_is_told(tmp_path: Path, clock: str) -> None:
    library = Path("/usr/lib/x86_64-linux-gnu/libedgetpu.so.1.0")
    assert probes.libedgetpu_clock(library, tmp_path) == "std or max cannot be told"
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    other = {"std": "max", "max": "std"}[clock]
    (info.parent / "status").write_text(
        f"Package: libedgetpu1-{other}\nStatus: deinstall ok config-files\nVersion: 15.0\n\n"
        f"Package: libedgetpu1-{clock}\nStatus: install ok installed\nArchitecture: amd64\n"
        "Version: 16.0\nDescription: Edge TPU runtime\n more\n"
    )
    (info / f"libedgetpu1-{clock}:amd64.list").write_text(f"/.\n/usr/lib\n{library}\n")
    told = probes.libedgetpu_clock(library, tmp_path)
    assert told == f"{clock} (package libedgetpu1-{clock} 16.0)"
    folder = {"std": "throttled", "max": "direct"}[clock]
    unpacked = tmp_path / folder / "k8" / "libedgetpu.so.1.0"
    assert probes.libedgetpu_clock(unpacked, tmp_path / "none") == f"{clock} (folder {folder})"


LIBEDGETPU = """
#include <stddef.h>
const char *edgetpu_version(void) { return "BuildLabel(CL_NUMBER=1), RuntimeVersion(14)"; }
void *edgetpu_list_devices(size_t *n) { *n = 0; return NULL; }
void edgetpu_free_devices(void *p) {}
"""


def test_a_library_that_loads_tells_its_version_and_place(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    real = tmp_path / "direct" / "libedgetpu.so.1.0"
    real.parent.mkdir()
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(real)]
    subprocess.run(command, input=LIBEDGETPU, text=True, check=True)
    (tmp_path / "libedgetpu.so.1").symlink_to(real)
    with Worker("libedgetpu") as worker:
        found = worker.call(
            "edgeconv.targets.coral.probes:libedgetpu", name=str(tmp_path / "libedgetpu.so.1")
        )
    assert found == {"version": "runtime 14, max (folder direct)", "where": str(real), "devices": 0}


def test_a_missing_library_is_a_problem_not_a_crash() -> None:
    assert "libnothing" in probes.libedgetpu("libnothing.so.1")["problem"]


@pytest.mark.slow
def test_doctor_says_what_the_target_lacks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgeconv", "doctor", "--json", "--target", "coral"]
    environment = {**os.environ, "EDGECONV_HOME": str(tmp_path / "home"), "PATH": str(tmp_path)}
    broken = tmp_path / "home" / "environments" / "tflite-runtime"
    (broken / "bin").mkdir(parents=True)
    (broken / "bin" / "python").write_text("#!/bin/sh\nexit 3\n")
    (broken / "bin" / "python").chmod(0o755)
    marker = {"lock_sha256": find("tflite-runtime").digest, "python": "3.11.7"}
    (broken / "edgeconv-complete.json").write_text(json.dumps(marker))
    before = sorted((tmp_path / "home").rglob("*"))
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 4, done.stderr
    found = json.loads(done.stdout)
    assert found["served"] is False
    by_name = {item["name"]: item for item in found["components"]}
    assert by_name["TensorFlow"]["works"]
    assert not by_name["edgetpu_compiler"]["works"]
    assert by_name["onnx-tf"]["next_step"] == "edgeconv toolchain install onnx-tf"
    # It has its completion marker, but does not work.
    assert "exit status 3" in by_name["tflite-runtime"]["problem"]
    assert by_name["tflite-runtime"]["next_step"].startswith("edgeconv toolchain remove")
    assert by_name["udev rule"]["seconds"] < 5
    assert sorted((tmp_path / "home").rglob("*")) == before
