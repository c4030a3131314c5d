"""The compiler's options, checked before it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeconv.core.errors import UsageError
from edgeconv.core.wording import named
from edgeconv.targets.coral.placement.ops import NEWEST_RUNTIME, OLDEST_RUNTIME

_TIMED = 16


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """Options of a run of the compiler.

    Attributes:
        min_runtime_version: Oldest runtime that must run the model, 10 to 14; the newest by
            default. Old runtimes lack features: 10 caches no parameters.
        num_segments: Cut the model into that many segments, for as many Edge TPUs.
        search_delegate: Where the model fails as a whole, cut it earlier and earlier.
        search_step: Operators that each step of that search leaves out.
        intermediate_tensors: For each model, tensors that end the part on the Edge TPU.
        multiple_subgraphs: Map every part that can be mapped, not only the first. Experimental.
        timeout: Seconds that one run may take; the compiler's own limit is set to it too, where
            the compiler has one.
        image: Container image that holds the compiler.
        memory: Bytes that it may take; half of the machine's memory by default.
    """

    min_runtime_version: int | None = None
    num_segments: int = 1
    search_delegate: bool = False
    search_step: int | None = None
    intermediate_tensors: tuple[tuple[str, ...], ...] = ()
    multiple_subgraphs: bool = False
    timeout: float = 600.0
    image: str | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        version = self.min_runtime_version
        if version is not None and not OLDEST_RUNTIME <= version <= NEWEST_RUNTIME:
            raise UsageError(
                f"{named('min_runtime_version')} {version} is not known",
                hint=f"use {OLDEST_RUNTIME} to {NEWEST_RUNTIME}",
            )
        if self.num_segments < 1:
            raise UsageError(f"{named('num_segments')} must be at least 1, not {self.num_segments}")
        if self.search_step is not None and self.search_step < 1:
            raise UsageError(
                f"{named('delegate_search_step')} must be at least 1, not {self.search_step}"
            )
        if not 0 < self.timeout < float("inf"):
            raise UsageError(
                f"{named('timeout')} must be more than 0 seconds, not {self.timeout:g}"
            )
        if self.num_segments > 1 and self.intermediate_tensors:
            raise UsageError(
                "intermediate tensors and segments exclude each other", hint="give one of them"
            )
        for name in (name for names in self.intermediate_tensors for name in names):
            if not name or {":", ","} & set(name):
                raise UsageError(
                    f"the compiler cannot be told of the tensor {name!r}",
                    why="it parts lists of names by commas and colons",
                    hint="rename the tensor, or cut at another one",
                )

    def require_for(self, models: int) -> None:
        """Refuse options that do not fit the number of models.

        Raises:
            UsageError: There are several models and segments, or too few lists of tensors.
        """
        if models > 1 and self.num_segments > 1:
            raise UsageError(
                "several models are compiled together, or one is cut into segments",
                hint=f"give one model, or leave {named('num_segments')} at 1",
            )
        if self.intermediate_tensors and len(self.intermediate_tensors) != models:
            raise UsageError(
                f"{len(self.intermediate_tensors)} lists of intermediate tensors for {models} "
                "models",
                hint="give one list for each",
            )

    def arguments(self, files: Sequence[str], version: str = "") -> list[str]:
        """Return the compiler's arguments.

        Args:
            files: Names of the models in its working directory.
            version: The compiler's release; from 16 on it has a time limit of its own, which
                would be 180 seconds.
        """
        limit = []
        if version.partition(".")[0].isdigit() and int(version.partition(".")[0]) >= _TIMED:
            limit = ["--timeout_sec", str(math.ceil(self.timeout))]
        return [*self._flags(), *limit, "--out_dir", ".", "--show_operations", *files]

    def _flags(self) -> Iterator[str]:
        if self.min_runtime_version is not None:
            yield from ("--min_runtime_version", str(self.min_runtime_version))
        if self.num_segments > 1:
            yield from ("--num_segments", str(self.num_segments))
        if self.search_delegate:
            yield "--search_delegate"
        if self.search_step is not None:
            yield from ("--delegate_search_step", str(self.search_step))
        if self.intermediate_tensors:
            lists = (",".join(names) for names in self.intermediate_tensors)
            yield from ("--intermediate_tensors", ":".join(lists))
        if self.multiple_subgraphs:
            yield "--enable_multiple_subgraphs"
