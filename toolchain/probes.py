"""What is installed on this machine and whether it works, one function for each component.

They look and run, and change nothing. Those that load native code are called in workers.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeconv.toolchain.device import probe

_GIB = 2**30
_USB_IDS = {("1a6e", "089a"): "before firmware", ("18d1", "9302"): "ready"}
_UDEV = ("/etc/udev/rules.d", "/lib/udev/rules.d", "/usr/lib/udev/rules.d")
_GET_PYCORAL = (
    "Google's is not on PyPI: take it from google-coral.github.io/py-repo "
    "(Python 3.6 to 3.9), or from its apt repository: apt install python3-pycoral"
)


@dataclass(frozen=True, slots=True)
class Component:
    """One component.

    Attributes:
        name: What it is.
        works: Whether it is there and was seen to work.
        version: Its version, where known.
        where: Where it was found.
        problem: What is wrong.
        next_step: What to do about it.
    """

    name: str
    works: bool
    version: str = ""
    where: str = ""
    problem: str = ""
    next_step: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def package(module: str) -> dict[str, str]:
    """Import a package, and return its version and place. Call it in a worker."""
    found = importlib.import_module(module)
    name = metadata.packages_distributions().get(module.partition(".")[0], [module])[0]
    return {"version": metadata.version(name), "where": str(Path(found.__file__ or "").parent)}


def libedgetpu(name: str = "libedgetpu.so.1") -> dict[str, Any]:
    """Load libedgetpu, and return its version and the number of TPUs that it sees.

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
    return {"version": library.edgetpu_version().decode(), "devices": int(count.value)}


def pycoral(paths: Sequence[str] | None = None) -> Component:
    """Tell Google's pycoral from PyPI's unrelated package of that name.

    Args:
        paths: Where packages are; those of this Python by default.
    """
    return pycoral_of(probe.pycoral(list(paths if paths is not None else sys.path)))


def pycoral_of(found: Mapping[str, Any] | None) -> Component:
    """Return what to say of a package pycoral that `probe.pycoral` found here or on a board."""
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


def tpus(root: Path = Path("/")) -> Component:
    """Look for Edge TPUs on USB and PCIe, without touching them.

    Args:
        root: Root of the file system; for tests.
    """
    seen, closed = [], []
    for folder in sorted((root / "sys/bus/usb/devices").glob("*")):
        ids = (_text(folder / "idVendor"), _text(folder / "idProduct"))
        if ids in _USB_IDS:
            seen.append(f"USB {':'.join(ids)} ({_USB_IDS[ids]})")
            bus, number = _text(folder / "busnum"), _text(folder / "devnum")
            if bus.isdigit() and number.isdigit():
                closed += _closed(root / f"dev/bus/usb/{int(bus):03}/{int(number):03}")
    for node in sorted((root / "dev").glob("apex_*")):
        seen.append(f"PCIe {node.name}")
        closed += _closed(node)
    if not seen:
        return Component(
            "Edge TPU", works=False, problem="none is attached", next_step="attach one"
        )
    if closed:
        rule = "there is a udev rule for it" if _udev_rule(root) else "no udev rule is installed"
        return Component(
            "Edge TPU",
            works=False,
            where=", ".join(seen),
            problem=f"no permission for {', '.join(closed)}; {rule}",
            next_step="install libedgetpu1-std, which brings the rule, add yourself to plugdev (or "
            "apex), and attach it again",
        )
    return Component("Edge TPU", works=True, where=", ".join(seen))


def program(name: str, next_step: str) -> Component:
    """Look for a program on PATH."""
    where = shutil.which(name)
    if where is None:
        return Component(name, works=False, problem="not on PATH", next_step=next_step)
    return Component(name, works=True, where=where)


def resources(folder: Path) -> list[Component]:
    """Return free disk space and memory."""
    disk = shutil.disk_usage(folder).free / _GIB
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    return [
        Component(
            "disk",
            works=disk >= 2,
            version=f"{disk:.0f} GiB free",
            where=str(folder),
            problem="" if disk >= 2 else "little space",
            next_step="" if disk >= 2 else "free 2 GiB",
        ),
        Component(
            "memory",
            works=memory >= 4,
            version=f"{memory:.0f} GiB",
            problem="" if memory >= 4 else "conversion may run out of it",
            next_step="" if memory >= 4 else "convert on a machine with 4 GiB",
        ),
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _closed(node: Path) -> list[str]:
    return [] if os.access(node, os.R_OK | os.W_OK) else [str(node)]


def _udev_rule(root: Path) -> bool:
    return any(
        "089a" in _text(path)
        for folder in _UDEV
        for path in (root / folder.lstrip("/")).glob("*.rules")
    )
