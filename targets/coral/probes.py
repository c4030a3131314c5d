"""What an Edge TPU needs on this machine, one function for each component."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeconv.core.errors import EdgeconvError
from edgeconv.targets.base import Probe
from edgeconv.targets.coral import device_part
from edgeconv.targets.coral.compiler.find import HOW_TO_GET, PROGRAM, require
from edgeconv.toolchain.device import probe
from edgeconv.toolchain.probes import Component, asked

_USB_IDS = {("1a6e", "089a"): "before firmware", ("18d1", "9302"): "ready"}
_PCI_ID = ("0x1ac1", "0x089a")
_UDEV = ("/etc/udev/rules.d", "/lib/udev/rules.d", "/usr/lib/udev/rules.d")
_GET_PYCORAL = (
    "Google's is not on PyPI: take it from google-coral.github.io/py-repo "
    "(Python 3.6 to 3.9), or from its apt repository: apt install python3-pycoral"
)

_GET_LIBEDGETPU = "install libedgetpu1-std from Google's apt repository coral-edgetpu-stable"


def probes() -> list[Probe]:
    """Return the compiler, the runtime, what is attached, and what only helps."""
    return [
        Probe(lambda: [compiler()], (PROGRAM,)),
        Probe(lambda: [asked_libedgetpu()], ("libedgetpu",)),
        Probe(lambda: [tpus(), udev_rule(), pycoral()], ("Edge TPU",)),
    ]


def compiler() -> Component:
    """Run the compiler's ``--version``."""
    try:
        found = require()
        done = subprocess.run(
            [str(found.program), "--version"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    except (EdgeconvError, OSError, subprocess.SubprocessError) as error:
        text = error.what if isinstance(error, EdgeconvError) else str(error)
        return Component(PROGRAM, works=False, problem=text, next_step=HOW_TO_GET)
    return Component(PROGRAM, works=True, version=done.stdout.strip(), where=str(found.program))


def asked_libedgetpu() -> Component:
    """Load libedgetpu in a process of its own."""
    return asked("libedgetpu", "edgeconv.targets.coral.probes:libedgetpu", _GET_LIBEDGETPU)


def libedgetpu(name: str = "libedgetpu.so.1", root: str = "/") -> dict[str, Any]:
    """Load libedgetpu, and return its version, its clock, and the number of TPUs that it sees.

    Call it in a worker. The interface is that of ``edgetpu_c.h``.
    """
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        return {"problem": str(error)}
    library.edgetpu_version.restype = ctypes.c_char_p
    library.edgetpu_list_devices.restype = ctypes.c_void_p
    count = ctypes.c_size_t(0)
    devices = library.edgetpu_list_devices(ctypes.byref(count))
    if devices:
        library.edgetpu_free_devices(ctypes.c_void_p(devices))
    path = _loaded(Path(name).name)
    said = library.edgetpu_version().decode()
    runtime = re.search(r"RuntimeVersion\((\d+)\)", said)
    version = f"runtime {runtime[1]}" if runtime else said
    clock = libedgetpu_clock(path, Path(root))
    return {"version": f"{version}, {clock}", "where": str(path), "devices": int(count.value)}


def libedgetpu_clock(library: Path, root: Path = Path("/")) -> str:
    """Tell ``libedgetpu1-std`` (reduced clock) from ``-max``, which have files of the same name.

    Args:
        library: The file, with links resolved.
        root: Root of the file system; for tests.
    """
    # The archives of Google's releases have the two in these folders.
    for part, name in (("throttled", "std"), ("direct", "max")):
        if part in library.parts:
            return f"{name} (folder {part})"
    for stanza in _text(root / "var/lib/dpkg/status").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line)
        package = fields.get("Package", "")
        if not package.startswith("libedgetpu1-") or "installed" not in fields["Status"].split():
            continue
        files = _text(root / f"var/lib/dpkg/info/{package}.list") or _text(
            root / f"var/lib/dpkg/info/{package}:{fields.get('Architecture')}.list"
        )
        if any(Path(line).name == library.name for line in files.splitlines()):
            return f"{package.removeprefix('libedgetpu1-')} (package {package} {fields['Version']})"
    return "std or max cannot be told"


def _loaded(name: str) -> Path:
    """Return the file that this process has loaded under a name."""
    stem = name.partition(".so")[0]
    for line in _text(Path("/proc/self/maps")).splitlines():
        path = line.partition("/")[2]
        if Path(path).name.startswith(stem):
            return Path("/", path).resolve()
    return Path(name)


def tpus(root: Path = Path("/")) -> Component:
    """Look for Edge TPUs on USB and PCIe, without touching them.

    Args:
        root: Root of the file system; for tests.
    """
    seen, closed = [], []
    for name, node in [*_usb_tpus(root), *_pcie_tpus(root)]:
        seen.append(name)
        closed += [] if node is None else _closed(node)
    where = ", ".join(seen)
    undriven = _without_driver(root)
    if undriven and not seen:
        return Component(
            "Edge TPU",
            works=False,
            where=undriven,
            problem="it is on the PCIe bus, but there is no /dev/apex_*: its driver is not loaded",
            next_step="install gasket-dkms for this kernel, and modprobe apex",
        )
    if not seen:
        return Component(
            "Edge TPU", works=False, problem="none is attached", next_step="attach one"
        )
    if closed:
        rule = "there is a udev rule for it" if udev_rule(root).works else "there is no udev rule"
        return Component(
            "Edge TPU",
            works=False,
            where=where,
            problem=f"no permission for {', '.join(closed)}; {rule}",
            next_step="install libedgetpu1-std, which brings the rule, add yourself to plugdev (or "
            "apex), and attach it again",
        )
    return Component("Edge TPU", works=True, where=where)


def udev_rule(root: Path = Path("/")) -> Component:
    """Look for the udev rule that opens Edge TPUs on USB to users."""
    for folder in _UDEV:
        for path in sorted((root / folder.lstrip("/")).glob("*.rules")):
            if "089a" in _text(path).lower():
                return Component("udev rule", works=True, where=str(path))
    return Component(
        "udev rule",
        works=False,
        problem="there is none for Edge TPUs",
        next_step="libedgetpu1-std brings 60-libedgetpu1-std.rules; root needs none",
    )


def _usb_tpus(root: Path) -> Iterator[tuple[str, Path | None]]:
    for folder in sorted((root / "sys/bus/usb/devices").glob("*")):
        ids = (_text(folder / "idVendor"), _text(folder / "idProduct"))
        if ids in _USB_IDS:
            bus, number = _text(folder / "busnum"), _text(folder / "devnum")
            known = bus.isdigit() and number.isdigit()
            node = root / f"dev/bus/usb/{int(bus):03}/{int(number):03}" if known else None
            yield f"USB {':'.join(ids)} ({_USB_IDS[ids]})", node


def _pcie_tpus(root: Path) -> Iterator[tuple[str, Path | None]]:
    for node in sorted((root / "dev").glob("apex_*")):
        yield f"PCIe {node.name}", node


def _without_driver(root: Path) -> str:
    """Return the PCIe addresses of Edge TPUs, by their vendor and device."""
    folders = sorted((root / "sys/bus/pci/devices").glob("*"))
    ids = {folder.name: (_text(folder / "vendor"), _text(folder / "device")) for folder in folders}
    return ", ".join(f"PCIe {name}" for name, found in ids.items() if found == _PCI_ID)


def pycoral(paths: Sequence[str] | None = None) -> Component:
    """Tell Google's pycoral from PyPI's unrelated package of that name.

    Args:
        paths: Where packages are; those of this Python by default.
    """
    found = device_part.look(
        list(paths if paths is not None else sys.path), probe.folder_of, probe.version_of
    )
    return pycoral_of(found["pycoral"])


def pycoral_of(found: Mapping[str, Any] | None) -> Component:
    """Return what to say of a package pycoral that `look` found here or on a board."""
    if found is None:
        return Component("pycoral", works=False, problem="not installed", next_step=_GET_PYCORAL)
    if found["google"]:
        return Component("pycoral", works=True, version=found["version"], where=found["where"])
    return Component(
        "pycoral",
        works=False,
        version=found["version"],
        where=found["where"],
        problem="this is PyPI's pycoral, a tool for the Allen Coral Atlas that has nothing to do "
        "with Google's Coral",
        next_step=f"pip uninstall pycoral; {_GET_PYCORAL}",
    )


def notes_on(found: Mapping[str, Any]) -> list[str]:
    """Return what is wrong on a board but stops nothing: PyPI's pycoral in Google's place."""
    component = pycoral_of(found.get("pycoral"))
    if found.get("pycoral") is None or component.works:
        return []
    what = f"pycoral {component.version} in {component.where}: {component.problem}"
    return [f"{what}; next: {component.next_step}"]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _closed(node: Path) -> list[str]:
    return [] if os.access(node, os.R_OK | os.W_OK) else [str(node)]
