"""What a target's compiler is asked for, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeconv.toolchain.worker.stage import unheard


@dataclass(frozen=True, slots=True)
class Setting:
    """An option of a target's compiler, which the command line offers under its name.

    Attributes:
        name: As an identifier, ``num_segments``; the flag has dashes.
        help: What it does, in a sentence.
        type: Of its value; of a `bool` there is a flag alone.
        default: What it is by itself.
        metavar: What stands for its value in help.
        repeatable: Whether it may be given more than once; its value is then a tuple.
    """

    name: str
    help: str
    type: type[str] | type[int] | type[float] | type[bool] = str
    default: Any = None
    metavar: str | None = None
    repeatable: bool = False

    @property
    def flag(self) -> str:
        """The option of the command line."""
        return "--" + self.name.replace("_", "-")


@dataclass(frozen=True, slots=True)
class CompilerRun:
    """How a compiler is run.

    Attributes:
        timeout: Seconds that it may take.
        memory: Bytes that it may take; half of the machine's memory by default.
        settings: Values of the target's own settings by name; what is left out is as it is by
            itself.
        progress: Told (done, total) by compilers that run several times.
    """

    timeout: float = 600.0
    memory: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    progress: Callable[[int, int], None] = unheard


@dataclass(frozen=True, slots=True)
class CompilerResult:
    """A model that was compiled.

    Attributes:
        path: The compiled file.
        data: What is to be known of it, JSON-ready, ``file`` at least.
        lines: The same for a terminal.
        notes: Sentences for the reports of a conversion.
    """

    path: Path
    data: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
