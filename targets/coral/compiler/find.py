"""Find ``edgetpu_compiler``: a program on this machine, or one in a container image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeconv.core.errors import ToolMissing, UsageError

PROGRAM = "edgetpu_compiler"
VARIABLE = "EDGECONV_EDGETPU_COMPILER"

HOW_TO_GET = (
    "on Linux with x86-64 add Google's apt repository packages.cloud.google.com/apt "
    "coral-edgetpu-stable main and install edgetpu-compiler; or set "
    f"{VARIABLE} to the program; or name a container image that has it with "
    "--compiler-image"
)
"""How a user gets the compiler, which may not be redistributed."""

_ENGINES = ("docker", "podman")
_MOUNT = "/work"


@dataclass(frozen=True, slots=True)
class Compiler:
    """How to start the compiler.

    Attributes:
        program: The program, or the container engine.
        image: Container image that holds the compiler; ``None`` for a program of this machine.
    """

    program: Path
    image: str | None = None

    def command(self, arguments: Sequence[str], directory: Path, name: str) -> list[str]:
        """Return the command line that runs the compiler in a directory.

        Args:
            arguments: Its arguments, with file names relative to the directory.
            directory: Where it runs; a container sees nothing else of this machine.
            name: Name of the container, so that it can be stopped.
        """
        if self.image is None:
            return [str(self.program), *arguments]
        user = f"{os.getuid()}:{os.getgid()}"
        options = ["--rm", "--network=none", f"--name={name}", f"--user={user}"]
        options += [f"--volume={directory}:{_MOUNT}", f"--workdir={_MOUNT}"]
        if self.program.name == "podman":
            options.append("--userns=keep-id")
        options.append(f"--entrypoint={PROGRAM}")
        return [str(self.program), "run", *options, self.image, *arguments]

    def stop_command(self, name: str) -> list[str] | None:
        """Return the command that stops a container; ``None`` where there is none."""
        return None if self.image is None else [str(self.program), "kill", name]

    def __str__(self) -> str:
        return str(self.program) if self.image is None else f"{PROGRAM} in {self.image}"


def find(image: str | None = None, environment: Mapping[str, str] | None = None) -> Compiler | None:
    """Find the compiler.

    Args:
        image: Container image to use instead of a program of this machine.
        environment: Environment variables; those of the process by default.

    Returns:
        The compiler, or ``None`` where this machine has none.

    Raises:
        UsageError: The variable names what is not a program, or the image is not a name.
        ToolMissing: An image is asked for, and there is neither docker nor podman.
    """
    variables = os.environ if environment is None else environment
    path = variables.get("PATH", "")
    if image is not None:
        return _container(image, path)
    named = variables.get(VARIABLE)
    if named:
        program = shutil.which(named, path=path)
        if program is None:
            raise UsageError(
                f"{VARIABLE} is {named}, which is not a program",
                hint=f"let it name {PROGRAM}, or unset it",
            )
        return Compiler(Path(program).absolute())
    program = shutil.which(PROGRAM, path=path)
    return None if program is None else Compiler(Path(program).absolute())


def require(image: str | None = None, environment: Mapping[str, str] | None = None) -> Compiler:
    """Find the compiler; see `find`.

    Raises:
        ToolMissing: There is none.
    """
    compiler = find(image, environment)
    if compiler is None:
        raise ToolMissing(
            f"{PROGRAM} is not installed",
            why=f"it is neither on PATH nor named by {VARIABLE}",
            hint=HOW_TO_GET,
        )
    return compiler


def _container(image: str, path: str) -> Compiler:
    if not image or image.startswith("-") or any(char.isspace() for char in image):
        raise UsageError(
            f"{image!r} is not the name of a container image", hint="give NAME[:TAG] or NAME@DIGEST"
        )
    for engine in _ENGINES:
        program = shutil.which(engine, path=path)
        if program is not None:
            return Compiler(Path(program).absolute(), image)
    raise ToolMissing(
        "the compiler's image cannot be run",
        why="neither docker nor podman is on PATH",
        hint="install one of them, or " + HOW_TO_GET,
    )
