"""The operators that a program saved by `torch.export` may call without reaching beyond tensors.

``pt2_operators.txt`` lists them by their registered names, overloads left out: what torch's
dispatcher has in the namespaces that programs are written in, without what `REFUSED` names. A test
compares both with the registry of the installed torch. Operators that only TorchScript knows, which
print, save, and work on strings and lists, are not in the dispatcher, and no program has them.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

NAMESPACES = frozenset({"aten", "prims", "quantized", "quantized_decomposed"})
"""The registry's namespaces that the list covers."""

REFUSED = {
    "aten::from_file": "reads and writes a file",
    "aten::_print": "prints",
    "aten::_backward": "calls autograd",
    "aten::retain_grad": "calls autograd",
    "aten::set_data": "replaces the memory of a tensor",
    "aten::record_stream": "changes the state of a device",
    "aten::_cufft_set_plan_cache_max_size": "changes the state of a device",
    "aten::_cufft_clear_plan_cache": "changes the state of a device",
    "aten::_propagate_xla_data": "changes the state of a device",
    "aten::_test_parallel_materialize": "runs threads",
}
"""Operators of the dispatcher that do more than to compute tensors, and what."""

# Registered by torchvision where that is installed.
_TORCHVISION = frozenset(
    {"deform_conv2d", "nms", "ps_roi_align", "ps_roi_pool", "qnms", "roi_align", "roi_pool"}
)
# Those that call a graph inside the program, or compute. Others call Python, a compiled library,
# or a kernel of their own.
_HIGHER_ORDER = frozenset(
    {
        "associative_scan",
        "auto_functionalized",
        "auto_functionalized_v2",
        "cond",
        "flex_attention",
        "hints_wrapper",
        "invoke_subgraph",
        "map_impl",
        "out_dtype",
        "run_const_graph",
        "scan",
        "strict_mode",
        "tag_activation_checkpoint",
        "while_loop",
        "with_effects",
        "wrap",
        "wrap_activation_checkpoint",
        "wrap_with_autocast",
        "wrap_with_set_grad_enabled",
    }
)
# What a value is made of; programs that were traced from TorchScript ask for it.
_PRIM = frozenset({"abs", "device", "dtype", "layout", "max", "min"})
# Arithmetic on sizes, by module.
_SYMBOLIC = {
    "_operator": "abs add and_ eq floordiv ge getitem gt index inv invert is_ is_not le lshift lt "
    "mod mul ne neg not_ or_ pos pow rshift sub truediv truth xor",
    "math": "acos asin atan atan2 ceil cos cosh exp fabs floor fmod gcd isfinite isinf isnan log "
    "log10 log2 pow prod sin sinh sqrt tan tanh trunc",
    "torch": "sym_float sym_int sym_ite sym_max sym_min sym_not sym_sqrt sym_sum _sym_acos "
    "_sym_asin _sym_atan _sym_cos _sym_cosh _sym_log2 _sym_sin _sym_sinh _sym_sqrt _sym_tan "
    "_sym_tanh",
}
# `torch.ops`, a namespace, an operator, and the overload where it is registered with one.
_OPERATOR = re.compile(r"torch\.ops\.([A-Za-z]\w*)\.(\w+)((?:\.[A-Za-z]\w*|\._[A-Za-z]\w*)?)")


@cache
def listed() -> frozenset[str]:
    """Return the operators of the list, such as ``aten::add``."""
    text = Path(__file__).with_name("pt2_operators.txt").read_text(encoding="utf-8")
    return frozenset(text.split())


def is_known(target: str) -> bool:
    """Tell whether a program may call what it names.

    Args:
        target: As programs are saved with it: ``torch.ops.aten.add.Tensor``, ``_operator.mul``.
    """
    match = _OPERATOR.fullmatch(target)
    if match is None:
        module, _, function = target.partition(".")
        return function in _SYMBOLIC.get(module, "").split()
    namespace, name, overload = match.groups()
    if "__" in overload:
        return False
    own = {"torchvision": _TORCHVISION, "higher_order": _HIGHER_ORDER, "prim": _PRIM}
    if namespace in own:
        return name in own[namespace]
    return f"{namespace}::{name}" in listed()
