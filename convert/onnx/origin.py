"""Where in the PyTorch source a node came from, as far as the exporter recorded it."""

from __future__ import annotations

import ast
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from edgeconv.convert.onnx.light import load_light_graph
from edgeconv.convert.onnx.value_map import scope_name

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import NodeProto

_SCOPES = "pkg.torch.onnx.name_scopes"
_STACK = "pkg.torch.onnx.stack_trace"
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


def origin_of(node: ir.Node) -> tuple[str, str]:
    """Return the path of the PyTorch module and ``file:line``, each ``""`` where unknown."""
    return _module(node.metadata_props.get(_SCOPES, "")), _source(
        node.metadata_props.get(_STACK, "")
    )


def module_of(node: NodeProto) -> str:
    """Return the path of the PyTorch module of a node as a file has it, ``""`` where unknown."""
    scopes = (item.value for item in node.metadata_props if item.key == _SCOPES)
    return _module(next(scopes, ""))


def origins_of(onnx: Path) -> dict[str, list[str]]:
    """Return what else the tensors of a translated ONNX file may be called.

    Args:
        onnx: The file.

    Returns:
        By the scope that each output of a node gives its tensors: the name of the node, that of
        the output, and the path of the PyTorch module, as far as they are known.
    """
    found = {}
    for node in load_light_graph(onnx).graph:
        module = origin_of(node)[0]
        for output in node.outputs:
            names = dict.fromkeys((str(node.name or ""), str(output.name or ""), module))
            found[scope_name(str(output.name))] = [name for name in names if name]
    return found


def _module(text: str) -> str:
    """Return the innermost module path; the last scope is the operator itself."""
    try:
        scopes = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return ""
    paths = [scope for scope in scopes[:-1] if scope]
    return str(paths[-1]) if paths else ""


def _source(stack: str) -> str:
    """Return the innermost frame outside PyTorch itself."""
    frames: list[tuple[str, str]] = _FRAME.findall(stack)
    own = [frame for frame in frames if "/torch/" not in frame[0]]
    return f"{shown_path(own[-1][0], Path.cwd())}:{own[-1][1]}" if own else ""


def shown_path(file: str, here: Path) -> str:
    """Return a source file's path without what is only true of the machine that exported it.

    Args:
        file: The path, of any system; the file need not exist here.
        here: The working directory.

    Returns:
        The path from the working directory or from where packages are installed; else the name of
        the file behind that of its directory, the package that it most likely is in.
    """
    path = PureWindowsPath(file) if "\\" in file else PurePosixPath(file)
    for place in ("site-packages", "dist-packages"):
        if place in path.parts:
            return "/".join(path.parts[path.parts.index(place) + 1 :])
    if path.is_relative_to(here):
        return path.relative_to(here).as_posix()
    parents = path.parent.parts
    somebody = len(parents) <= 3 and parents[1:2] in (("home",), ("Users",), ("root",), ("tmp",))
    return path.name if somebody or len(parents) < 2 else f"{parents[-1]}/{path.name}"
