"""The options that the Coral adds to a conversion."""

from __future__ import annotations

from dataclasses import dataclass

from edgeconv.core.declare import About, as_tuples, option
from edgeconv.core.options import TargetOptions

_GROUP = "Target coral"
_COMPILER = "a target with a compiler"


@dataclass(frozen=True, slots=True)
class CoralOptions(TargetOptions):
    """How a model is rewritten and compiled for the Edge TPU."""

    allow_approximate: bool = option(
        default=False,
        about=About(
            _GROUP,
            "Replace what the target lacks by close functions where exact ones do not exist.",
        ),
    )
    cut: tuple[str, ...] = option(
        (),
        About(
            _GROUP,
            "Leave what follows this ONNX node to the CPU, as a model of its own.",
            "auto cuts off what does not map at the end.",
            metavar="NODE|auto",
            needs="a target other than {target}",
            why="it leaves the end of a model to the CPU",
        ),
    )
    compiler_image: str | None = option(
        None,
        About(
            _GROUP,
            "Container image that holds the target's compiler.",
            metavar="IMAGE",
            needs=_COMPILER,
        ),
    )
    min_runtime_version: int | None = option(
        None,
        About(
            _GROUP,
            "Oldest runtime of the target that must run the model, 10 to 14.",
            shown="the newest",
            needs=_COMPILER,
        ),
    )
    search_delegate: bool = option(
        default=False,
        about=About(
            _GROUP,
            "Where the target's compiler fails, cut the model earlier and earlier.",
            needs=_COMPILER,
        ),
    )
    bisect: bool = option(
        default=False,
        about=About(_GROUP, "Search the operator that the compiler fails on.", needs=_COMPILER),
    )

    def __post_init__(self) -> None:
        as_tuples(self)
