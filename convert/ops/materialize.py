"""The one operator of edgeconv's own domain; see `edgeconv.convert.passes.materialize_shared`."""

from __future__ import annotations

from edgeconv.convert.context import Context
from edgeconv.convert.passes.materialize_shared import DOMAIN
from edgeconv.convert.registry import op
from edgeconv.convert.value import Value, arranged


@op("Materialize", domain=DOMAIN)
def materialize(g: Context, x: Value) -> Value:
    """Store x in ONNX's order, if it is not."""
    if x.view.natural_permutation() == tuple(range(x.rank)):
        return x
    return Value.of(arranged(x, range(x.rank)))
