"""What the graph of an ONNX file joins in its outputs, followed back to where it computes.

Every element of an output is numbered, and the numbers are carried back through what only moves
elements (`edgeconv.convert.onnx.moves`) and through work on each element alone. A Concat, a scatter
to constant places or a selection by a constant mask divides them; constants that scale elements by
very different factors do, too. Where something else computes, they have arrived at a piece.

A piece must be a product of indices along axes, as all channels of a kind are. An output with
another piece is not divided at all, and left to `edgeconv.metrics.parts.divide`; constants around
it, as of padding, do not count.

Levels of a pyramid are joined as well, but are no different things: pieces of one bounded
activation that differ along one axis only, which counts places and not channels, are one piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeconv.convert.onnx.facts import Facts, read_facts
from edgeconv.convert.onnx.moves import Moved, Numbers, moved_back
from edgeconv.convert.onnx.rows import row_sets
from edgeconv.convert.onnx.scores import labels, no_scores, single_rows
from edgeconv.metrics.parts import RANGE_RATIO, Anatomy, Part, Slice

if TYPE_CHECKING:
    from onnx import NodeProto

_MOST_PIECES = 64
_MOST_ELEMENTS = 1 << 25
_MOST_NODES = 2000
_BRANCHES = 2

_BOUNDED = frozenset({"Sigmoid", "HardSigmoid", "Softmax"})
_CONSTANT = "constant"
_SCALED = frozenset({"Mul", "Div", "Add", "Sub", "Neg"})
_CHANNEL_AXIS = {"Conv": 1, "ConvTranspose": 1, "Gemm": -1, "MatMul": -1}

_Scales = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Elements of the output that come of one value.

    Attributes:
        numbers: Their numbers in the value's shape; -1 where the value has others.
        path: Operators that compute between the output and the value, from the output on.
        scales: By what constants have multiplied each element; ``None`` where by nothing.
        origin: What made the value.
        places: Axes of the output along which places are counted, as far as that is known.
        branches: How often another way may be taken where two values come together.
    """

    numbers: Numbers
    path: tuple[str, ...] = ()
    scales: _Scales | None = None
    origin: str = ""
    places: frozenset[int] = frozenset()
    branches: int = _BRANCHES

    @property
    def one_unit(self) -> bool:
        """Whether a bounded activation made it, and only shifts and scales came after that."""
        bounded = [place for place, name in enumerate(self.path) if name in _BOUNDED]
        return bool(bounded) and set(self.path[: bounded[0]]) <= _SCALED | {"Clip", "Cast"}

    @property
    def words(self) -> str:
        """What made it: an activation where there is one, else its operator or module."""
        known = [name for name in self.path if name not in _SCALED | {"Cast", "Identity"}]
        bounded = [name for name in known if name in _BOUNDED]
        return (bounded or known or [self.origin])[0].lower()


def read_anatomy(path: Path) -> Anatomy:
    """Return what an ONNX file joins in its outputs, and which of them are sets of rows, or scores.

    Args:
        path: The file, which has been checked.
    """
    facts = read_facts(path)
    parts = {name: parts for name in facts.outputs if (parts := parts_of(facts, name))}
    return Anatomy(
        parts,
        row_sets(facts),
        no_scores(facts),
        frozenset(single_rows(facts)),
        frozenset(labels(facts)),
    )


def parts_of(facts: Facts, output: str) -> tuple[Part, ...]:
    """Return the parts of one output in their order; none where it is of one piece."""
    shape = facts.shape(output)
    if shape is None or not 0 < np.prod(shape) <= _MOST_ELEMENTS:
        return ()
    numbers = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    pieces = list(_by_scale(_Walk(facts, shape).follow(output, _Piece(numbers))))
    if not 1 < len(pieces) <= _MOST_PIECES:
        return ()
    placed = [
        item
        for piece in pieces
        if (item := _Placed(piece, _product(piece.numbers, shape))).indices
        or piece.origin != _CONSTANT
    ]
    if not all(item.indices for item in placed):
        return ()
    parts = [item.part(shape) for item in _merged(placed)]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts) or len(found) < 2:
        return ()
    return tuple(sorted(found, key=lambda part: [(s.axis, s.start) for s in part.slices]))


@dataclass(slots=True)
class _Walk:
    """The way back from one output.

    Attributes:
        facts: The graph.
        shape: The output's shape.
        left: How many more values may be looked at.
    """

    facts: Facts
    shape: tuple[int, ...]
    left: int = _MOST_NODES

    def follow(self, value: str, piece: _Piece) -> list[_Piece]:
        """Return the pieces that a value's elements are of."""
        node = self.facts.node(value)
        self.left -= 1
        if node is None or value in self.facts.constant or self.left < 0:
            return [self._arrived(value, piece)]
        moves = moved_back(self.facts, node, value, piece.numbers)
        if moves is None:
            return self._through(node, value, piece)
        found: list[_Piece] = []
        for move in moves:
            if (move.numbers >= 0).any():
                found += self.follow(move.value, _moved(piece, move))
        return found

    def _through(self, node: NodeProto, value: str, piece: _Piece) -> list[_Piece]:
        """Go on through work on each element alone; end at everything else."""
        computed = [
            name for name in self.facts.elementwise(node) if name not in self.facts.constant
        ]
        whole = [name for name in computed if self.facts.shape(name) == piece.numbers.shape]
        if not whole or (len(computed) > 1 and not piece.branches):
            return [self._arrived(value, piece)]
        further = replace(
            piece,
            path=(*piece.path, node.op_type),
            scales=self._scaled(node, piece),
            branches=piece.branches - (len(computed) > 1),
        )
        if len(computed) == 1:
            return self.follow(whole[0], further)
        best = max((self.follow(name, further) for name in whole), key=len)
        return best if len(best) > 1 else [self._arrived(value, piece)]

    def _scaled(self, node: NodeProto, piece: _Piece) -> _Scales | None:
        """Return the scales with the constant that a product is of."""
        constants = [name for name in node.input if name in self.facts.constant]
        if node.op_type not in ("Mul", "Div") or len(constants) != 1:
            return piece.scales
        array = self.facts.array(constants[0])
        if array is None or array.size < 2 or not np.isfinite(array).all():
            return piece.scales
        factors = np.broadcast_to(np.abs(array).astype(np.float32), piece.numbers.shape)
        if node.op_type == "Div":
            factors = np.reciprocal(np.maximum(factors, np.finfo(np.float32).tiny))
        return factors if piece.scales is None else piece.scales * factors

    def _arrived(self, value: str, piece: _Piece) -> _Piece:
        node = self.facts.node(value)
        if value in self.facts.constant or not value:
            return replace(piece, origin=_CONSTANT)
        if node is None:
            return replace(piece, origin=f"input {value}")
        path = (*piece.path, node.op_type) if node.op_type in _BOUNDED else piece.path
        found = replace(piece, path=path, origin=self.facts.made_by(node))
        axis = _CHANNEL_AXIS.get(node.op_type)
        if axis is None or not found.one_unit:
            return found
        return replace(found, places=frozenset(_places(piece.numbers, axis, self.shape)))


def _moved(piece: _Piece, move: Moved) -> _Piece:
    """Return the piece as it is before a move."""
    if piece.scales is None:
        return replace(piece, numbers=move.numbers)
    used = piece.numbers >= 0
    by_number = np.ones(int(piece.numbers.max()) + 1, np.float32)
    by_number[piece.numbers[used]] = piece.scales[used]
    return replace(piece, numbers=move.numbers, scales=by_number[move.numbers])


def _places(numbers: Numbers, channels: int, shape: tuple[int, ...]) -> Iterator[int]:
    """Yield the axes of the output along which a layer's places are, its channels being elsewhere.

    Args:
        numbers: The numbers of the layer's elements.
        channels: The layer's axis of channels.
        shape: The output's shape.
    """
    channels %= numbers.ndim
    used = numbers >= 0
    places: set[int] = set()
    kinds: set[int] = set()
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        at = numbers // int(np.prod(shape[axis + 1 :])) % size
        for own in range(numbers.ndim):
            both = np.diff(used, axis=own) == 0
            if (np.diff(at, axis=own) * both * np.take(used, range(1, used.shape[own]), own)).any():
                (kinds if own == channels else places).add(axis)
    single = int(np.count_nonzero(used.any(axis=tuple(set(range(used.ndim)) - {channels})))) == 1
    for axis in places:
        if kinds - {axis} or single:
            yield axis


def _by_scale(pieces: Iterable[_Piece]) -> Iterator[_Piece]:
    """Divide pieces whose elements were multiplied by constants of very different size."""
    for piece in pieces:
        limits = _limits(piece)
        for low, high in pairwise(limits):
            assert piece.scales is not None
            inside = (piece.numbers >= 0) & (piece.scales >= low) & (piece.scales < high)
            yield replace(piece, numbers=np.where(inside, piece.numbers, -1))
        if not limits:
            yield piece


def _limits(piece: _Piece) -> list[float]:
    """Return the bounds of the groups of scales; nothing where they are alike."""
    if piece.scales is None:
        return []
    scales = np.unique(piece.scales[piece.numbers >= 0])
    scales = scales[scales > 0]
    cuts = np.flatnonzero(scales[1:] / scales[:-1] > RANGE_RATIO)
    if not cuts.size:
        return []
    return [0.0, *np.sqrt(scales[cuts] * scales[cuts + 1]).tolist(), np.inf]


@dataclass(frozen=True, slots=True)
class _Placed:
    """A piece, and its indices along each axis of the output; none where it is no product."""

    piece: _Piece
    indices: tuple[tuple[int, ...], ...]

    def part(self, shape: tuple[int, ...]) -> Part | None:
        """Return it as a part; ``None`` where no slice has the indices."""
        slices = [
            Slice.of(axis, indices)
            for axis, indices in enumerate(self.indices)
            if len(indices) < shape[axis]
        ]
        known = tuple(item for item in slices if item is not None)
        if len(known) < len(slices):
            return None
        return Part(known, self.piece.words, self.piece.one_unit)

    def with_(self, other: _Placed) -> _Placed | None:
        """Return both as one; ``None`` where they are different things."""
        if self.piece.path != other.piece.path or not self.piece.one_unit:
            return None
        differing = [
            axis for axis, pair in enumerate(zip(self.indices, other.indices, strict=True))
            if pair[0] != pair[1]
        ]  # fmt: skip
        if len(differing) != 1 or differing[0] not in self.piece.places & other.piece.places:
            return None
        joined = list(self.indices)
        axis = differing[0]
        joined[axis] = tuple(sorted({*self.indices[axis], *other.indices[axis]}))
        return replace(self, indices=tuple(joined))


def _product(numbers: Numbers, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the indices along each axis of the output that a piece is the product of."""
    mask = np.zeros(int(np.prod(shape)), np.bool_)
    mask[numbers[numbers >= 0]] = True
    mask = mask.reshape(shape)
    axes = range(len(shape))
    indices = [
        np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis)))
        for axis in axes
    ]
    if int(np.prod([item.size for item in indices])) != int(np.count_nonzero(mask)):
        return ()
    return tuple(tuple(item.tolist()) for item in indices)


def _merged(pieces: list[_Placed]) -> list[_Placed]:
    """Return the pieces, those that are one thing at several places as one."""
    for first, second in combinations(range(len(pieces)), 2):
        both = pieces[first].with_(pieces[second])
        if both is not None:
            rest = [item for index, item in enumerate(pieces) if index not in (first, second)]
            return _merged([both, *rest])
    return pieces
