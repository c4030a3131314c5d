"""Control flow that is settled at conversion."""

from __future__ import annotations

from typing import Any

from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.registry import op
from edgeconv.convert.translate.value import Value


@op("If")
def if_(g: Context, cond: Value, *, then_branch: Any, else_branch: Any) -> tuple[Value, ...]:
    """If on a condition that is constant, or follows from shapes: only one branch is translated."""
    holds = bool(g.constant(cond, "the condition").item())
    return tuple(g.nested(then_branch if holds else else_branch, []))
