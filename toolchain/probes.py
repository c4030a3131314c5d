"""What is installed on this machine and whether it works, one function for each component.

They look and run, and change nothing. Those that load native code are called in workers.
"""

from __future__ import annotations

import importlib
import os
import shutil
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeconv.core.errors import EdgeconvError
from edgeconv.toolchain.worker.process import Worker

_GIB = 2**30


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
        seconds: What it took to find out.
    """

    name: str
    works: bool
    version: str = ""
    where: str = ""
    problem: str = ""
    next_step: str = ""
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def package(module: str) -> dict[str, str]:
    """Import a package, and return its version and place. Call it in a worker."""
    found = importlib.import_module(module)
    name = metadata.packages_distributions().get(module.partition(".")[0], [module])[0]
    return {"version": metadata.version(name), "where": str(Path(found.__file__ or "").parent)}


def asked(name: str, function: str, next_step: str, **arguments: Any) -> Component:
    """Call a probe in a worker process of its own, which may crash.

    Args:
        name: The component.
        function: The probe, ``package.module:function``; returns its ``version`` and ``where``, or
            a ``problem``.
        next_step: What to do where there is a problem.
        arguments: What it is called with.
    """
    try:
        with Worker(name, timeout=120) as worker:
            answer: dict[str, Any] = worker.call(function, **arguments)
    except EdgeconvError as error:
        answer = {"problem": f"{error.what}: {error.why}" if error.why else error.what}
    problem = str(answer.get("problem", ""))
    return Component(
        name,
        works=not problem,
        version=str(answer.get("version", "")),
        where=str(answer.get("where", "")),
        problem=problem,
        next_step=next_step if problem else "",
    )


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
