"""The one operator of edgeconv's own domain; see `edgeconv.convert.passes.materialize_shared`."""

from __future__ import annotations

from edgeconv.convert.passes.materialize_shared import DOMAIN
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.registry import op
from edgeconv.convert.translate.value import Value, arranged
from edgeconv.convert.translate.view import View


@op("Materialize", domain=DOMAIN)
def materialize(g: Context, x: Value) -> Value:
    """Store x in ONNX's order, if it is not, in as few dimensions as the transpose has."""
    movement = x.view.movement(range(x.rank))
    if not movement.moves:
        return x
    last = movement.steps()[-1]
    compact = tuple(last.split[axis] for axis in last.permutation)
    view = View.of(compact).reshape(x.shape)
    if view is None:
        return Value.of(arranged(x, range(x.rank)))
    return Value(arranged(x, range(x.rank), compact), view)
