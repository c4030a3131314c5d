"""LSTMs with a projection, which ONNX's LSTM does not have: written out step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._decomp.decompositions import lstm_impl
from torch.fx import Node


def is_projected(node: Node) -> bool:
    """Tell whether a node is an LSTM whose hidden state is smaller than the cell's."""
    if node.target is not torch.ops.aten.lstm.input:
        return False
    states: Any = node.args[1]
    hidden, cell = (state.meta["val"].shape[-1] for state in states)
    return bool(hidden != cell)


TABLE: dict[str, Callable[..., Any]] = {"lstm.input": lstm_impl}
