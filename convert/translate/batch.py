"""An open batch where a graph computes with its size: ``Shape``, arithmetic, ``Reshape``.

The size is a number that nothing else in a model is, a large prime, so that it passes through the
integer arithmetic of exporters as any size does, and every product with it can be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from edgeconv.convert.translate.registry import Unsupported
from edgeconv.convert.translate.value import Value
from edgeconv.convert.translate.view import DYNAMIC, Shape, product
from edgeconv.core.artifacts import Array
from edgeconv.core.wording import named

BATCH = 10_000_000_019
"""The size of the batch; its products with sizes of tensors fit into 64 bits."""

HINT = f"fix the batch: {named('input_shapes')}"

_ARITHMETIC = frozenset(
    {
        "Abs", "Add", "And", "Cast", "Concat", "Div", "Equal", "Gather", "Greater",
        "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mul", "Neg", "Not",
        "Or", "ReduceProd", "Reshape", "Shape", "Size", "Slice", "Split", "Squeeze", "Sub",
        "Unsqueeze", "Where",
    }
)  # fmt: skip
_TAKES_SIZES = {"ConstantOfShape": 0, "Expand": 1, "Reshape": 1, "Resize": 3}
_SIZED_BY_DATA = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Range", "Unique"})
_GROWING = frozenset({"Concat", "Tile"})
_SAME_ELEMENTS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def sizes_of(value: Value, multiple: int) -> Shape:
    """Return the shape of a value, with its open dimension as a multiple of `BATCH`.

    Args:
        value: The value.
        multiple: How many times the batch its open dimension is; 0 where data decides it.

    Raises:
        Unsupported: Data decides the shape.
    """
    if DYNAMIC in value.shape and not multiple:
        raise Unsupported("a shape known at run time only", f"give {named('input_shapes')}")
    return tuple(multiple * BATCH if size == DYNAMIC else size for size in value.shape)


def opened(sizes: Iterable[int]) -> Shape:
    """Return sizes with `DYNAMIC` for the one that depends on the batch.

    Raises:
        Unsupported: Several depend on it.
    """
    shape = tuple(DYNAMIC if size and size % BATCH == 0 else size for size in sizes)
    if shape.count(DYNAMIC) > 1:
        raise Unsupported("several dimensions depend on the batch", HINT)
    return shape


class Batch:
    """Which values of a graph hold the size of the batch, or a dimension that depends on it."""

    def __init__(self) -> None:
        self._sizes: set[str] = set()
        self._multiples: dict[str, int] = {}

    def start(self, inputs: Mapping[str, Value]) -> None:
        """Begin with the inputs of the graph."""
        self._multiples = {name: 1 for name, value in inputs.items() if DYNAMIC in value.shape}

    def multiple(self, node: ir.Node) -> int:
        """Return how many times the batch the open dimension of a node's inputs is; 0 for none."""
        found = [self._multiples.get(str(value.name), 0) for value in node.inputs if value]
        return max(found, default=0)

    def folds(self, node: ir.Node, inputs: Sequence[Value | None]) -> bool:
        """Tell whether a node may be computed beforehand as far as the batch is concerned.

        Raises:
            Unsupported: The batch's size is used for something else than a shape.
        """
        places = [n for n, value in enumerate(node.inputs) if value and value.name in self._sizes]
        if not places:
            return True
        if _TAKES_SIZES.get(node.op_type) in places:
            return False
        computed = any(value is not None and value.constant is None for value in inputs)
        if node.op_type in _ARITHMETIC and not computed:
            return True
        raise Unsupported("it computes with the size of the batch, which is open", HINT)

    def note(
        self, node: ir.Node, inputs: Sequence[Value | None], values: Mapping[str, Value]
    ) -> None:
        """Take down what the results of a translated node have to do with the batch."""
        dependent = node.op_type in ("Shape", "Size") or any(
            value and value.name in self._sizes for value in node.inputs
        )
        for name in (str(output.name) for output in node.outputs):
            value = values.get(name)
            if value is None:
                continue
            if value.constant is not None:
                if dependent and _holds_size(value.constant):
                    self._sizes.add(name)
            elif DYNAMIC in value.shape and node.op_type not in _SIZED_BY_DATA:
                self._multiples[name] = self._multiple_of(node, inputs, value)

    def _multiple_of(self, node: ir.Node, inputs: Sequence[Value | None], result: Value) -> int:
        if node.op_type in ("ConstantOfShape", "Expand"):
            return max(self.multiple(node), 1)
        multiple = self.multiple(node)
        first = inputs[0] if inputs else None
        if node.op_type in _GROWING and first is not None:
            return self._grown(node, inputs, result)
        if node.op_type not in _SAME_ELEMENTS or first is None or DYNAMIC not in first.shape:
            return multiple
        fixed = (product(s for s in v.shape if s != DYNAMIC) for v in (first, result))
        before, after = fixed
        return multiple * before // after if after else multiple

    def _grown(self, node: ir.Node, inputs: Sequence[Value | None], result: Value) -> int:
        """Return the multiple where values are joined or repeated; 0 where it is none."""
        axis = result.shape.index(DYNAMIC)
        if node.op_type == "Tile":
            counts = inputs[1].constant if inputs[1] is not None else None
            return 0 if counts is None else self.multiple(node) * int(counts[axis])
        parts = [0 if value is None else value.shape[axis] for value in inputs]
        joined = node.attributes["axis"].as_int() if node.op_type == "Concat" else None
        if joined is not None and joined % len(result.shape) != axis:
            return self.multiple(node)
        if any(size != DYNAMIC for size in parts):
            return 0
        found = [self._multiples.get(str(value.name), 0) for value in node.inputs if value]
        return sum(found) if all(found) else 0


def _holds_size(array: Array) -> bool:
    """Tell whether the batch's size is in an array; if it was divided by, or cast, it may be."""
    if array.dtype.kind != "i":
        return bool(array.dtype.kind != "b")
    return bool(((array != 0) & (array % BATCH == 0)).any() or (abs(array) > BATCH // 2).any())
