"""Limits of what PyTorch does with a file, within a worker process."""

from __future__ import annotations

import ast
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeconv.toolchain.worker.limits import processor_time

_LOOP = re.compile(rb"^\s*while |^\s*for \w+ in range\((.*)\):", re.MULTILINE)
_TURNS = 100_000
_SECONDS = 4.0
_SECONDS_PER_MB = 2.0
"""What loading and running a program with open loops may take."""

_LARGEST_CODE = 1 << 26
_DEGREE = 64


@contextmanager
def limited_loops(source: str | None) -> Iterator[None]:
    """Limit the processor time of loading and running a TorchScript file that may never end.

    Only a program with loops can run for ever, and few have any: exporters unroll them. Whatever
    else takes long is work that the model is meant to do.

    Args:
        source: The file; None, and anything else than an archive, is not limited.
    """
    if source is None or not _has_open_loops(Path(source)):
        yield
        return
    with processor_time(_SECONDS + _SECONDS_PER_MB * Path(source).stat().st_size / 1e6):
        yield


def _has_open_loops(path: Path) -> bool:
    """Tell whether TorchScript code in a file loops for long, or for who knows how long."""
    turns = 1
    try:
        with zipfile.ZipFile(path) as archive:
            for one in archive.infolist():
                if "/code/" not in one.filename or not one.filename.endswith(".py"):
                    continue
                if one.file_size > _LARGEST_CODE:
                    return True
                for count in _LOOP.findall(archive.read(one)):
                    if not count.isdigit():
                        return True
                    turns *= max(1, int(count))
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return False  # loading it says what is wrong
    return turns > _TURNS


def is_bounded(text: str) -> bool:
    """Tell whether a symbolic size, ``2*s0 + 1``, can be evaluated without growing beyond measure.

    PyTorch evaluates it with integers of any length. Products and sums grow with the length of the
    text only; powers and shifts do not.
    """
    try:
        tree = ast.parse(text, mode="eval")
        return _degree(tree.body) <= _DEGREE
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _degree(node: ast.AST) -> int:
    """Return how many times the length of an operand a value may have, along the worst path."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.LShift):
        return _degree(node.left) * _exponent(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        inner = max(map(_degree, node.args), default=1)
        powers = node.func.id in ("Pow", "PowByNatural", "FloatPow", "LShift")
        if powers and len(node.args) == 2:
            return _degree(node.args[0]) * _exponent(node.args[1])
        return inner
    return max(map(_degree, ast.iter_child_nodes(node)), default=1)


def _exponent(node: ast.AST) -> int:
    """Return the size of a constant exponent; too large a number for any other."""
    if isinstance(node, ast.UnaryOp):
        return _exponent(node.operand)
    if isinstance(node, ast.Call) and len(node.args) == 1:  # Integer(2)
        return _exponent(node.args[0])
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return int(min(max(1.0, abs(node.value)), _DEGREE + 1.0))
    return _DEGREE + 1
