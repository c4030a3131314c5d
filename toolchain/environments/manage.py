"""Install, find and remove the environments.

An environment is whole when it has its marker, which is written last, after the self-test. Whatever
has none, or one of another lock file, was interrupted or is out of date and is made afresh. A lock
on a file beside it lets several processes ask at once: one works, the others wait and find it done.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.core.errors import EdgeconvError, ToolMissing
from edgeconv.toolchain.environments.home import home
from edgeconv.toolchain.environments.specs import ENVIRONMENTS, Environment, find
from edgeconv.toolchain.worker.process import ProgressCallback, Worker

_MARKER = "edgeconv-complete.json"
_MOST_SECONDS = 3600.0

INSTALLED, OUTDATED, INCOMPLETE, ABSENT = "installed", "outdated", "incomplete", "absent"


@dataclass(frozen=True, slots=True)
class Installed:
    """What is known of an environment on this machine.

    Attributes:
        environment: Which one.
        state: ``installed``, ``outdated`` (from another lock file), ``incomplete`` or ``absent``.
        path: Its directory, whether it exists or not.
        python: The Python version that it was made with, or ``""``.
    """

    environment: Environment
    state: str
    path: Path
    python: str = ""

    @property
    def interpreter(self) -> Path:
        """The environment's Python."""
        return interpreter_of(self.path)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.environment.name,
            "package": self.environment.package,
            "version": self.environment.version,
            "use": self.environment.use,
            "state": self.state,
            "path": str(self.path),
            "python": self.python,
            "lock_file": str(self.environment.lock_file),
        }


def interpreter_of(directory: Path) -> Path:
    """Return the Python of an environment in this directory."""
    return directory / "bin" / "python"


def status(name: str) -> Installed:
    """Say what of an environment is there. Changes nothing.

    Raises:
        UsageError: There is no such environment.
    """
    environment = find(name)
    path = home() / "environments" / name
    if not path.is_dir():
        return Installed(environment, ABSENT, path)
    try:
        marker = json.loads((path / _MARKER).read_text())
        digest, python = marker["lock_sha256"], str(marker["python"])
    except (OSError, ValueError, KeyError, TypeError):
        return Installed(environment, INCOMPLETE, path)
    state = INSTALLED if digest == environment.digest else OUTDATED
    if not interpreter_of(path).exists():  # a link to a Python that may have been removed
        state = INCOMPLETE
    return Installed(environment, state, path, python)


def every_status() -> list[Installed]:
    """Return the state of each environment."""
    return [status(name) for name in ENVIRONMENTS]


def require(name: str) -> Path:
    """Return the Python of an installed environment.

    Raises:
        ToolMissing: It is not installed, or not wholly.
    """
    found = status(name)
    if found.state == INSTALLED:
        return found.interpreter
    reasons = {
        OUTDATED: "it was made by another version of edgeconv",
        INCOMPLETE: "its installation was interrupted",
    }
    raise ToolMissing(
        f"{name} is not installed",
        where=str(found.path),
        why=reasons.get(found.state, ""),
        hint=f"run: edgeconv toolchain install {name}",
    )


def install(
    name: str,
    *,
    find_links: Path | None = None,
    python: Path | None = None,
    progress: ProgressCallback | None = None,
) -> Installed:
    """Make an environment whole; one that is whole already stays as it is.

    Args:
        name: Which one.
        find_links: Directory with the wheels; the network is not used then.
        python: The interpreter to make it with; a suitable one is looked for by default.
        progress: Told (done, total) of the steps, most of which are packages.

    Raises:
        UsageError: There is no such environment, or no such directory.
        ToolMissing: There is no suitable Python.
        WorkerError: pip or the self-test failed.
    """
    environment = find(name)
    with _locked(environment):
        found = status(name)
        if found.state == INSTALLED:
            return found
        _clear(found.path)
        # In a worker, pip ends with us, however we end.
        with Worker(f"{name} installer", timeout=_MOST_SECONDS) as worker:
            version = worker.call(
                "edgeconv.toolchain.environments.build:build",
                progress,
                name=name,
                directory=str(found.path),
                find_links=None if find_links is None else str(find_links),
                python=None if python is None else str(python),
            )
        _mark(found.path, {"lock_sha256": environment.digest, "python": version})
        return status(name)


def self_test(name: str, timeout: float) -> str:
    """Run the self-test of an installed environment; return what is wrong, or ``""``.

    Args:
        name: Which one.
        timeout: Seconds that it may take.
    """
    try:
        with Worker(f"{name} self-test", timeout=timeout) as worker:
            worker.call(
                "edgeconv.toolchain.environments.build:self_test",
                name=name,
                python=str(require(name)),
            )
    except EdgeconvError as error:
        return f"{error.what}: {error.why}" if error.why else error.what
    return ""


def remove(name: str) -> bool:
    """Remove an environment, whole or not; return whether there was any.

    Raises:
        UsageError: There is no such environment.
    """
    environment = find(name)
    if status(name).state == ABSENT:
        return False
    with _locked(environment):
        path = status(name).path
        _clear(path)
    return True


def _clear(path: Path) -> None:
    """Remove an environment; without its marker first, so that no half of it is taken for one."""
    (path / _MARKER).unlink(missing_ok=True)
    if path.exists():
        shutil.rmtree(path)


def _mark(path: Path, content: dict[str, str]) -> None:
    partial = path / f"{_MARKER}.part"
    partial.write_text(json.dumps(content))
    partial.replace(path / _MARKER)


@contextmanager
def _locked(environment: Environment) -> Iterator[None]:
    """Hold the lock of an environment; released by the system, however the process ends."""
    folder = home() / "environments"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / f".{environment.name}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
