"""Say why PyTorch's exporters failed, and where in the model."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from edgeconv.convert.torch_model import TorchModel
from edgeconv.errors import ConversionError

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_OPERATOR = re.compile(r"\b(?:aten|torchvision|prims|quantized)(?:::|\.)(\w+)")
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


@dataclass(frozen=True, slots=True)
class Failure:
    """How one exporter failed.

    Attributes:
        exporter: Its name.
        error: What it raised.
        chatter: What it printed.
    """

    exporter: str
    error: Exception
    chatter: str


def cause_of(error: BaseException) -> str:
    """Return the innermost cause of an exporter's error in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:240] if lines else 'no message'}"


def export_failed(model: TorchModel, failures: Sequence[Failure]) -> ConversionError:
    """Return the error for a model that no exporter can express, with the cause of each."""
    causes = [f"{failure.exporter} exporter: {cause_of(failure.error)}" for failure in failures]
    origin = _origin(model, failures)
    details = "\n".join(
        f"--- {failure.exporter} exporter\n{failure.chatter}"
        + "".join(traceback.format_exception(failure.error))
        for failure in failures
    )
    return ConversionError(
        "PyTorch cannot export this model to ONNX",
        where=model.where + (f", {origin}" if origin else ""),
        why="; ".join(causes),
        hint="replace the operator in the model; --verbose shows the exporters' reports",
        details=_COLOUR.sub("", details),
    )


def _origin(model: TorchModel, failures: Sequence[Failure]) -> str:
    """Return the module and the source line of the operator that the exporters name."""
    for failure in reversed(failures):
        named = _OPERATOR.search(cause_of(failure.error))
        if named is None:
            continue
        # Decomposition renames some operators with a leading underscore.
        operator = named.group(1).lstrip("_")
        found = _in_program(model, operator) or _in_trace(failure.chatter, operator)
        if found:
            return found
    return ""


def _in_program(model: TorchModel, operator: str) -> str:
    graph = getattr(model.program, "graph_module", None)
    for node in graph.graph.nodes if graph is not None else ():
        name = getattr(node.target, "__name__", "").partition(".")[0]
        if name.lstrip("_") == operator:
            stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
            frames: list[tuple[str, str]] = _FRAME.findall(node.meta.get("stack_trace") or "")
            own = [frame for frame in frames if "/torch/" not in frame[0]]
            module = str(stack[-1]).removeprefix("L['self'].") if stack else ""
            source = f"{own[-1][0]}:{own[-1][1]}" if own else ""
            return _joined(module, source)
    return ""


def _in_trace(chatter: str, operator: str) -> str:
    """Find the operator in a printed TorchScript graph, ``... scope: A::/B::inner # file:3:0``."""
    pattern = rf"aten::_?{operator}\(.*?scope: (\S+)(?: # (\S+):\d+)?"
    match = re.search(pattern, chatter)
    if match is None:
        return ""
    path = ".".join(part.partition("::")[2] for part in match[1].split("/"))
    return _joined(path.strip("."), match[2] or "")


def _joined(module: str, source: str) -> str:
    return " at ".join(part for part in (f"module {module}" if module else "", source) if part)
