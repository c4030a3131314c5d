"""Says what a machine has to run TFLite models with, before anything is sent to it.

It runs on boards, with Python 3.7 or later, under the name of the runner. It only looks at files,
because native libraries may crash, and prints one JSON object::

    {"runtimes": ["tflite-runtime 2.14.0"], "python": "3.9.2", "machine": "aarch64 Linux",
     "part": null}

``part`` is what ``look`` of a target's ``device_part.py`` finds, where one lies beside it.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# In the order in which the runner prefers them.
RUNTIMES = (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime"))


def version_of(package: str, folder: Path) -> str:
    """Return the version of a package in a folder from the name of its metadata, or ``""``."""
    for pattern in ("{}-*.dist-info", "{}-*.egg-info"):
        for found in sorted(folder.glob(pattern.format(package))):
            return found.stem[len(package) + 1 :].split("-")[0]
    return ""


def runtimes(paths: Sequence[str]) -> list[str]:
    """Return the installed TFLite runtimes with their versions, the one that is used first."""
    found = []
    for package, name in RUNTIMES:
        folder = folder_of(package, paths)
        if folder is not None:
            found.append((name + " " + version_of(package, folder)).strip())
    return found


def part_looks(path: Path, paths: Sequence[str]) -> dict[str, Any] | None:
    """Return what a target's part finds; ``None`` where there is no part, or it does not look."""
    if not path.exists():
        return None
    sys.dont_write_bytecode = True
    spec = importlib.util.spec_from_file_location("device_part", str(path))
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    look = getattr(module, "look", None)
    return None if look is None else dict(look(paths, folder_of, version_of))


def folder_of(package: str, paths: Sequence[str]) -> Path | None:
    """Return the first folder of the search path that has a package, as ``import`` would."""
    for path in paths:
        if path and (Path(path) / package).is_dir():
            return Path(path)
    return None


def main() -> None:
    """Print what is there."""
    answer = {
        "runtimes": runtimes(sys.path[1:]),  # the first entry is the folder of this file
        "part": part_looks(Path(__file__).resolve().with_name("device_part.py"), sys.path[1:]),
        "python": platform.python_version(),
        "machine": platform.machine() + " " + platform.system(),
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
