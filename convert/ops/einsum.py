"""Einsum, as products of batches of matrices, and determinants."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from edgeconv.convert.ops.elementwise import binary
from edgeconv.convert.ops.matmul import matmul
from edgeconv.convert.ops.reduce import reduced
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value, arranged
from edgeconv.convert.translate.view import product

_LARGEST_DETERMINANT = 4


@dataclass(frozen=True, slots=True)
class Term:
    """An operand and the letter of each of its axes."""

    value: Value
    letters: str

    def size(self, letter: str) -> int:
        """Return the size of the axis with a letter."""
        return self.value.shape[self.letters.index(letter)]

    def ordered(self, letters: str) -> Term:
        """Permute the axes."""
        return Term(self.value.transpose([self.letters.index(c) for c in letters]), letters)

    def summed(self, kept: str) -> Term:
        """Sum over the axes whose letters are not kept."""
        gone = [axis for axis, letter in enumerate(self.letters) if letter not in kept]
        if not gone:
            return self
        letters = "".join(letter for letter in self.letters if letter in kept)
        return Term(reduced(self.value, gone, 0, tf.reduce_sum), letters)

    def without(self, letters: set[str]) -> Term:
        """Drop axes of size 1."""
        left = "".join(letter for letter in self.letters if letter not in letters)
        return Term(self.value.reshape(tuple(self.size(letter) for letter in left)), left)


@op("Einsum", since=12)
def einsum(g: Context, *inputs: Value, equation: str) -> Value:
    """Einsum: one operand after another is multiplied into the result."""
    names, result = _parse(equation, [value.rank for value in inputs])
    terms = [_diagonal(Term(value, name)) for value, name in zip(inputs, names, strict=True)]
    total = terms[0]
    for number, term in enumerate(terms[1:], 1):
        later = result + "".join(other.letters for other in terms[number + 1 :])
        total = _multiplied(g, total, term, later)
    return total.summed(result).ordered(result).value


def _parse(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Return the letters of each operand and of the result; an ellipsis becomes letters."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise Unsupported(f"equation {equation} for {len(ranks)} operands")
    used = set(equation)
    spare = [chr(code) for code in range(0x391, 0x3A0) if chr(code) not in used]
    widest = 0
    names = []
    for term, rank in zip(terms, ranks, strict=True):
        hidden = rank - len(term.replace("...", ""))
        if hidden < 0 or (hidden and "..." not in term):
            raise Unsupported(f"equation {equation} for an operand of rank {rank}")
        widest = max(widest, hidden)
        names.append(term.replace("...", "".join(spare[:hidden][::-1])))
    dots = "".join(spare[:widest][::-1])
    if arrow:
        return names, right.replace("...", dots)
    letters = "".join(names)
    once = sorted(c for c in set(letters) - set(dots) if letters.count(c) == 1)
    return names, dots + "".join(once)


def _diagonal(term: Term) -> Term:
    """Merge the axes of a letter that comes twice: every (n + 1)th element of the square."""
    for letter in set(term.letters):
        while term.letters.count(letter) > 1:
            first = term.letters.index(letter)
            second = term.letters.index(letter, first + 1)
            others = [a for a in range(term.value.rank) if a not in (first, second)]
            shape = tuple(term.value.shape[axis] for axis in others)
            size = term.value.shape[first]
            flat = arranged(term.value, (*others, first, second), (*shape, size * size))
            letters = "".join(term.letters[axis] for axis in others) + letter
            term = Term(Value.of(flat[..., :: size + 1]), letters)
    return term


def _multiplied(g: Context, a: Term, b: Term, later: str) -> Term:
    """Multiply two operands and sum over the letters that nothing later has."""
    common = set(a.letters) & set(b.letters)
    a = a.without({c for c in common if a.size(c) == 1 and b.size(c) != 1})
    b = b.without({c for c in common if b.size(c) == 1 and a.letters.count(c) and a.size(c) != 1})
    a, b = a.summed(later + b.letters), b.summed(later + a.letters)
    batch = "".join(c for c in a.letters if c in b.letters and c in later)
    inner = "".join(c for c in a.letters if c in b.letters and c not in later)
    rows = "".join(c for c in a.letters if c not in b.letters)
    columns = "".join(c for c in b.letters if c not in a.letters)
    left, right = a.ordered(batch + rows + inner), b.ordered(batch + inner + columns)
    sizes = {c: term.size(c) for term in (a, b) for c in term.letters}
    shape = tuple(sizes[c] for c in batch + rows + columns)
    if not inner:
        spread = left.value.reshape((*(sizes[c] for c in batch + rows), *(1,) * len(columns)))
        over = (*(sizes[c] for c in batch), *(1,) * len(rows), *(sizes[c] for c in columns))
        product_ = binary(tf.multiply, spread, right.value.reshape(over))
        return Term(product_, batch + rows + columns)
    lead = (product(sizes[c] for c in batch),) if batch else ()
    m, k, n = (product(sizes[c] for c in group) for group in (rows, inner, columns))
    y = matmul(g, left.value.reshape((*lead, m, k)), right.value.reshape((*lead, k, n)))
    return Term(y.reshape(shape), batch + rows + columns)


@op("Det", since=11)
def det(g: Context, x: Value) -> Value:
    """Det of matrices up to 4 by 4, by expansion along rows."""
    size = x.shape[-1]
    if size > _LARGEST_DETERMINANT:
        raise Unsupported(f"a determinant of {size} by {size}", "TFLite has no decomposition")
    t = arranged(x, range(x.rank))
    minors: dict[tuple[int, ...], Tensor] = {(): None}
    for row in reversed(range(size)):
        minors = _expanded_minors(t, row, size, minors)
    return Value.of(minors[tuple(range(size))])


def _expanded_minors(
    t: Tensor, row: int, size: int, below: dict[tuple[int, ...], Tensor]
) -> dict[tuple[int, ...], Tensor]:
    """Return the minors of the rows from ``row`` on, by their columns, from those below."""
    minors: dict[tuple[int, ...], Tensor] = {}
    for columns in below:
        for column in range(size):
            if column in columns:
                continue
            chosen = tuple(sorted((*columns, column)))
            minor = below[columns]
            entry = t[..., row, column]
            part = entry if minor is None else entry * minor
            part = -part if chosen.index(column) % 2 else part
            minors[chosen] = minors[chosen] + part if chosen in minors else part
    return minors
