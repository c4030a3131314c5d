"""Build small operators and models for the tests of the rules."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.tflite import file as tflite
from edgeconv.tflite.view import Op, Tensor, View


class Graph:
    """A graph that grows operator by operator; tensors are numbered as they come."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self._tensors = 0

    def tensor(
        self,
        *shape: int,
        dtype: str = "int8",
        value: Array | None = None,
        per_channel: bool = False,
    ) -> Tensor:
        """Return a new tensor."""
        self._tensors += 1
        index = self._tensors - 1
        return Tensor(
            index, f"t{index}", shape, dtype, value, variable=False, per_channel=per_channel
        )

    def constant(self, values: Any, dtype: str = "int32") -> Tensor:
        """Return a new constant."""
        value = np.array(values, dtype)
        return self.tensor(*value.shape, dtype=dtype, value=value)

    def weight(self, *shape: int, per_channel: bool = False) -> Tensor:
        """Return a new int8 weight of ones."""
        return self.tensor(*shape, value=np.ones(shape, np.int8), per_channel=per_channel)

    def op(
        self, name: str, *inputs: Tensor | None, out: Tensor, version: int = 1, **options: Any
    ) -> Op:
        """Append an operator."""
        code = tflite.BUILTIN_CODES.get(name, tflite.BUILTIN_CODES["CUSTOM"])
        table = SimpleNamespace(**options)
        op = Op(len(self.ops), name, code, version, inputs, (out,), table)
        self.ops.append(op)
        return op

    def view(self, *, subgraphs: int = 1, outside: int = 0) -> View:
        """Return the view of what was built."""
        return View(tuple(self.ops), (0,), subgraphs, outside)
