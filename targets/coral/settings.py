"""What ``edgetpu_compiler`` can be told from outside."""

from __future__ import annotations

from edgeconv.targets.compiling import Setting

SETTINGS = (
    Setting("compiler_image", "Container image that holds edgetpu_compiler.", metavar="IMAGE"),
    Setting(
        "min_runtime_version",
        "Oldest Edge TPU runtime that must run the result, 10 to 14.  [default: the newest]",
        type=int,
        metavar="N",
    ),
    Setting(
        "num_segments",
        "Cut one model into segments, for as many Edge TPUs.",
        type=int,
        default=1,
        metavar="N",
    ),
    Setting(
        "intermediate_tensors",
        "Tensors that end the part on the Edge TPU; once for each model, in order.",
        metavar="NAME,...",
        repeatable=True,
    ),
    Setting(
        "search_delegate", "Where the compiler fails, cut the model earlier and earlier.", type=bool
    ),
    Setting(
        "delegate_search_step",
        "Operators that each step of that search leaves out.",
        type=int,
        metavar="N",
    ),
    Setting(
        "multiple_subgraphs",
        "Map every part that can be mapped, not only the first. Experimental.",
        type=bool,
    ),
    Setting("bisect", "Search the operator that the compiler fails on.", type=bool),
)
