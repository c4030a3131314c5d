"""Say why PyTorch's exporters failed, and where in the model."""

from __future__ import annotations

import linecache
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeconv.convert.onnx.origin import shown_path
from edgeconv.convert.torch.data_dependent import depends_on_data, innermost
from edgeconv.convert.torch.model import TorchModel
from edgeconv.core import wording
from edgeconv.core.errors import ConversionError

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_OPERATOR = re.compile(r"\b(?:aten|torchvision|prims|quantized)(?:::|\.)(\w+)")
_LIBRARY = re.compile(r"^<|[/\\](?:(?:torch|sympy|onnxscript)[/\\]|contextlib\.py$)")
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


DATA_DEPENDENT = "post-processing with a number of results that depends on data"
_INSTEAD = (
    "convert the network without it: a module that returns what enters it, with "
    f"{wording.named('factory')} package:factory{{parts}}; do the rest in the application"
)


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


def cause_of(error: BaseException, model: TorchModel) -> str:
    """Return the innermost cause of an exporter's error in one line."""
    error = innermost(error)
    if depends_on_data(error):
        place = _place_of(error, model)
        return DATA_DEPENDENT + (f" ({place})" if place else "")
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:240] if lines else 'no message'}"


def export_failed(model: TorchModel, failures: Sequence[Failure]) -> ConversionError:
    """Return the error for a model that no exporter can express, with the cause of each."""
    causes = [
        f"{failure.exporter} exporter: {cause_of(failure.error, model)}" for failure in failures
    ]
    origin = _origin(model, failures)
    details = "\n".join(
        f"--- {failure.exporter} exporter\n{failure.chatter}"
        + "".join(traceback.format_exception(failure.error))
        for failure in failures
    )
    hint = "replace the operator in the model; --verbose shows the exporters' reports"
    dependent = [cause for cause in causes if DATA_DEPENDENT in cause]
    if dependent:
        causes, hint = dependent[:1], _instead(model)
    return ConversionError(
        "PyTorch cannot export this model to ONNX",
        where=model.where + (f", {origin}" if origin else ""),
        why="; ".join(causes),
        hint=hint,
        details=_COLOUR.sub("", details),
    )


def _place_of(error: BaseException, model: TorchModel) -> str:
    """Return the module and the source line at which the model's own code failed."""
    here = str(Path(__file__).parent)
    frames = [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not _LIBRARY.search(frame.f_code.co_filename)
        and not frame.f_code.co_filename.startswith(here)
    ]
    names = {id(part): name for name, part in getattr(model.function, "named_modules", list)()}
    inside = [names.get(id(frame.f_locals.get("self")), "") for frame, _ in frames]
    module = next((name for name in reversed(inside) if name), "")
    if not frames:
        return ""
    file, function = frames[-1][0].f_code.co_filename, frames[-1][0].f_code.co_name
    line = frames[-1][1]
    code = linecache.getline(file, line).strip()
    caller = "" if function == "forward" else f", in {function}()"
    place = f"{shown_path(file, Path.cwd())}:{line}{caller}"
    return _joined(module, place) + (f": {code}" if code else "")


def _instead(model: TorchModel) -> str:
    """Say what to convert of a model whose post-processing depends on data."""
    parts = [name for name, _ in getattr(model.function, "named_children", list)()]
    named = f" (its parts are {', '.join(parts[:8])})" if parts else ""
    return _INSTEAD.format(parts=named)


def _origin(model: TorchModel, failures: Sequence[Failure]) -> str:
    """Return the module and the source line of the operator that the exporters name."""
    for failure in reversed(failures):
        named = _OPERATOR.search(cause_of(failure.error, model))
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
