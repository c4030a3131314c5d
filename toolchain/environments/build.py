"""Make an environment: find a Python, venv, pip, self-test. Called in a worker."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edgeconv.core.errors import ToolMissing, UsageError, WorkerError
from edgeconv.toolchain.environments.manage import interpreter_of
from edgeconv.toolchain.environments.specs import Environment, find
from edgeconv.toolchain.worker.process import ProgressCallback

_VERSION = "import json, sys; print(json.dumps([sys.implementation.name, *sys.version_info[:3]]))"


def build(
    name: str,
    directory: str,
    find_links: str | None,
    python: str | None,
    progress: ProgressCallback | None = None,
) -> str:
    """Make an environment in a directory that does not exist, and test it.

    Args:
        name: Which one.
        directory: Where to make it.
        find_links: Directory with the wheels; the network is not used then.
        python: The interpreter to make it with; a suitable one is looked for by default.
        progress: Told of every package that pip has got, and of the installation and the test.

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
    steps = _Steps(environment, progress)
    _run("venv", [interpreter, "-I", "-m", "venv", directory], environment, find_links)
    steps.done()
    own = str(interpreter_of(Path(directory)))
    pip = [own, "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    pip += ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-color"]
    # pip asks every index that the user has for every package. With its five retries an index that
    # cannot be reached costs eight seconds each time; what is locked is on any of them, or on none.
    pip += ["--retries", "1", "-r", str(environment.lock_file)]
    if find_links is not None:
        pip += ["--no-index", "--find-links", str(Path(find_links).resolve())]
    _run("pip", pip, environment, find_links, steps.heard)
    steps.done()
    self_test(environment.name, own)
    steps.done()
    return version


def self_test(name: str, python: str) -> None:
    """Run the self-test of an environment: a small real conversion or inference.

    Args:
        name: The environment.
        python: Its interpreter.

    Raises:
        WorkerError: It does not work.
    """
    module, _, function = find(name).self_test.partition(":")
    getattr(importlib.import_module(module), function)(Path(python))


class _Steps:
    """Counts what is done: making the environment, every package, installing them, testing."""

    def __init__(self, environment: Environment, progress: ProgressCallback | None) -> None:
        self._progress = progress
        self._total = len(environment.requirements) + 3
        self._done = 0

    def done(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)

    def heard(self, line: str) -> None:
        """Take a line of pip, which names every package as it turns to it."""
        if line.startswith(("Collecting ", "Processing ")):
            self.done()


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


def _run(
    step: str,
    command: Sequence[str],
    environment: Environment,
    find_links: str | None,
    heard: Callable[[str], None] = lambda _: None,
) -> None:
    # Neither this process's packages nor a user's pip options may leak into the environment;
    # where pip finds its index, and through which proxy, is the user's business.
    dropped = {"PYTHONPATH", "PYTHONHOME", "PIP_REQUIRE_VIRTUALENV", "PIP_TARGET", "PIP_USER"}
    inherited = {key: value for key, value in os.environ.items() if key not in dropped}
    said = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=inherited,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            heard(line)
    if process.returncode == 0:
        return
    lines = [line.strip() for line in said if line.startswith("ERROR")]
    why = lines[-1] if lines else f"exit status {process.returncode}"
    hint = "check the network, or give a directory of wheels with --find-links"
    if find_links is not None:
        lacking = re.search(r"No matching distribution found for (\S+)", why)
        if lacking is not None:
            why = f"there is no wheel of {lacking[1]} in {find_links}"
        hint = (
            "fetch what is missing where there is a network: pip download --no-deps "
            f"--only-binary :all: --require-hashes -r {environment.lock_file} -d {find_links}"
        )
    raise WorkerError(
        f"{step} failed",
        where=f"environment {environment.name}",
        why=why,
        hint=f"{hint}; --verbose shows the whole output",
        details="".join(said)[-12000:],
    )
