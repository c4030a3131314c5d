"""Make an environment: find a Python, venv, pip, self-test. Called in a worker."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeconv.errors import ToolMissing, UsageError, WorkerError
from edgeconv.toolchain.environments.manage import interpreter_of
from edgeconv.toolchain.environments.specs import Environment, find

_VERSION = "import json, sys; print(json.dumps([sys.implementation.name, *sys.version_info[:3]]))"


def build(name: str, directory: str, find_links: str | None, python: str | None) -> str:
    """Make an environment in a directory that does not exist, and test it.

    Returns:
        The version of its Python.

    Raises:
        UsageError: There is no such directory of wheels.
        ToolMissing: There is no suitable Python.
        WorkerError: venv, pip or the self-test failed.
    """
    environment = find(name)
    if find_links is not None and not Path(find_links).is_dir():
        raise UsageError("there is no such directory", where=find_links)
    interpreter, version = find_python(environment, python)
    _run("venv", [interpreter, "-I", "-m", "venv", directory], name)
    own = str(interpreter_of(Path(directory)))
    pip = [own, "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    pip += ["--require-hashes", "--no-deps", "--only-binary", ":all:"]
    pip += ["-r", str(environment.lock_file)]
    if find_links is not None:
        pip += ["--no-index", "--find-links", str(Path(find_links).resolve())]
    _run("pip", pip, name)
    module, _, function = environment.self_test.partition(":")
    getattr(importlib.import_module(module), function)(Path(own))
    return version


def find_python(environment: Environment, chosen: str | None) -> tuple[str, str]:
    """Return a suitable interpreter and its version.

    Args:
        environment: What it is for.
        chosen: The one to use, if it suits.

    Raises:
        ToolMissing: There is none.
    """
    tried = []
    for candidate in [chosen] if chosen else _candidates(environment):
        version = _version_of(candidate)
        if version is not None and version[:2] in environment.pythons:
            return candidate, ".".join(map(str, version))
        if version is not None:
            tried.append(f"{candidate} is {version[0]}.{version[1]}")
    names = " or ".join(f"{major}.{minor}" for major, minor in environment.pythons)
    raise ToolMissing(
        f"{environment.name} needs Python {names}",
        why="; ".join(dict.fromkeys(tried)) or f"{chosen or 'none of them'} cannot be run",
        hint="install one, and name it with --python /path/to/python"
        + "{}.{}".format(*environment.pythons[0]),
    )


def _candidates(environment: Environment) -> Iterator[str]:
    yield sys.executable
    for major, minor in environment.pythons:
        found = shutil.which(f"python{major}.{minor}")
        if found is not None:
            yield found


def _version_of(interpreter: str) -> tuple[int, int, int] | None:
    """Return the version of a CPython; ``None`` where it is another one, or does not run."""
    try:
        done = subprocess.run(
            [interpreter, "-I", "-c", _VERSION], capture_output=True, text=True, check=False
        )
        name, major, minor, micro = json.loads(done.stdout)
    except (OSError, ValueError):
        return None
    return (major, minor, micro) if name == "cpython" else None


def _run(step: str, command: Sequence[str], name: str) -> None:
    # Neither this process's packages nor a user's pip options may leak into the environment;
    # where pip finds its index, and through which proxy, is the user's business.
    dropped = {"PYTHONPATH", "PYTHONHOME", "PIP_REQUIRE_VIRTUALENV", "PIP_TARGET", "PIP_USER"}
    inherited = {key: value for key, value in os.environ.items() if key not in dropped}
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=inherited,
        check=False,
    )
    if done.returncode == 0:
        return
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    raise WorkerError(
        f"{step} failed",
        where=f"environment {name}",
        why=lines[-1] if lines else f"exit status {done.returncode}",
        hint="check the network, or give a directory of wheels with --find-links; "
        "--verbose shows the whole output",
        details=done.stdout[-4000:] + done.stderr[-8000:],
    )
