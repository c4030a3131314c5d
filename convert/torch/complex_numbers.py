"""Complex numbers as pairs of real ones: neither TFLite nor ONNX's exporter computes with them.

A program that has them is run by an interpreter that keeps a real and an imaginary part of each,
and traced again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgeconv.convert.torch.arguments import Call
from edgeconv.convert.torch.fourier import TRANSFORMS, Pair, Unreal
from edgeconv.convert.torch.single_precision import open_dimensions

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node


def has_complex(program: ExportedProgram) -> bool:
    """Tell whether anything in a program is complex."""
    values = [node.meta.get("val") for node in program.graph.nodes]
    held = [*program.state_dict.values(), *program.constants.values()]
    return any(
        isinstance(leaf, Tensor) and leaf.is_complex()
        for leaf in pytree.tree_leaves([values, held])
    )


def in_real_numbers(program: ExportedProgram, call: Call) -> ExportedProgram:
    """Return a program that computes the same with real tensors only.

    Args:
        program: Its inputs and outputs are real.
        call: Positional and keyword arguments, for a program that brings none.

    Raises:
        Unreal: An operator on complex numbers has no form here.
    """
    args, kwargs = program.example_inputs or call
    module = _Real(program.module(check_guards=False))
    shapes = open_dimensions(program)
    real = torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)
    for node in real.graph.nodes:
        origin = node.meta.pop("custom", {}).get(_ORIGIN)
        node.meta.update(module.origins.get(origin, {}))
    return real


_ORIGIN = "edgeconv_origin"
"""What a node of the program is annotated with: the node that it was."""


class _Real(torch.nn.Module):
    """Runs a graph module with pairs in place of complex tensors."""

    def __init__(self, graph: torch.fx.GraphModule) -> None:
        super().__init__()
        self.graph_module = graph
        self.origins = {node.name: _origin(node) for node in graph.graph.nodes}
        self.names: dict[str, str] = {}
        targets = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
        held = {target: _attribute(graph, target) for target in targets}
        for target, value in held.items():
            if isinstance(value, Tensor) and value.is_complex():
                name = target.replace(".", "_")
                self.register_buffer(f"{name}_re", value.real.clone())
                self.register_buffer(f"{name}_im", value.imag.clone())
                self.names[target] = name
                owner, _, last = target.rpartition(".")
                delattr(graph.get_submodule(owner), last)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run it."""
        flat = self.graph_module.graph.process_inputs(*args, **kwargs)
        found = _Interpreter(self.graph_module, self).run(*flat, enable_io_processing=False)
        return self.graph_module.graph.process_outputs(found)


def _origin(node: Node) -> dict[str, Any]:
    """Return what a node says of the module and the line that it comes from."""
    return {key: node.meta[key] for key in ("nn_module_stack", "stack_trace") if key in node.meta}


def _attribute(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name, None)
    return module


class _Interpreter(torch.fx.Interpreter):
    def __init__(self, graph: torch.fx.GraphModule, owner: _Real) -> None:
        super().__init__(graph)
        self._owner = owner

    def run_node(self, n: Node) -> Any:
        n.meta["custom"] = {_ORIGIN: n.name}
        with torch.fx.traceback.preserve_node_meta(), torch.fx.traceback.set_current_meta(n):
            return self._run(n)

    def _run(self, n: Node) -> Any:
        name = self._owner.names.get(str(n.target), "") if n.op == "get_attr" else ""
        if name:
            return Pair(getattr(self._owner, f"{name}_re"), getattr(self._owner, f"{name}_im"))
        if n.op != "call_function" or not isinstance(n.target, torch._ops.OpOverload):
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        leaves = pytree.tree_leaves((args, kwargs), is_leaf=lambda x: isinstance(x, Pair))
        name = n.target._schema.name.partition("::")[2]
        concerned = any(isinstance(leaf, (Pair, complex)) for leaf in leaves)
        makes = isinstance(n.meta.get("val"), Tensor) and n.meta["val"].is_complex()
        if not concerned and not makes:
            return super().run_node(n)
        if name in _PARTWISE:
            return _partwise(n.target, args, kwargs)
        if name not in RULES:
            raise Unreal(f"complex numbers: aten.{name} at {_place(n)} has no real form here")
        return RULES[name](*args, **kwargs)


def _place(node: Node) -> str:
    stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    module = str(stack[-1]).removeprefix("L['self']").strip(".") if stack else ""
    return f"module {module}" if module else node.name


def _partwise(target: Any, args: Any, kwargs: Any) -> Any:
    """Apply what moves values only to each part."""

    def part(index: int) -> Any:
        return target(
            *pytree.tree_map(
                lambda x: x[index] if isinstance(x, Pair) else x,
                args,
                is_leaf=lambda x: isinstance(x, Pair),
            ),
            **kwargs,
        )

    re, im = part(0), part(1)
    if isinstance(re, (tuple, list)):
        return [Pair(*both) for both in zip(re, im, strict=True)]
    return Pair(re, im)


def _pair(x: Any) -> Any:
    """Return numbers and real tensors as pairs."""
    if isinstance(x, Pair):
        return x
    if isinstance(x, complex):
        return x.real, x.imag
    return x, 0


def _add(a: Any, b: Any, *, alpha: float = 1) -> Pair:
    (ar, ai), (br, bi) = _pair(a), _pair(b)
    return Pair(ar + alpha * br, _tensor(ai + alpha * bi, ar + alpha * br))


def _sub(a: Any, b: Any, *, alpha: float = 1) -> Pair:
    return _add(a, b, alpha=-alpha)


def _tensor(x: Any, like: Tensor) -> Tensor:
    return x if isinstance(x, Tensor) else torch.full_like(like, x)


def _product(multiply: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Pair]:
    def product(a: Any, b: Any) -> Pair:
        if not isinstance(a, Pair) and isinstance(a, Tensor) and isinstance(b, Pair):
            return Pair(multiply(a, b.re), multiply(a, b.im))
        if not isinstance(b, (Pair, complex)):
            return Pair(multiply(a.re, b), multiply(a.im, b))
        (ar, ai), (br, bi) = _pair(a), _pair(b)
        return Pair(
            multiply(ar, br) - multiply(ai, bi),
            multiply(ar, bi) + multiply(ai, br),
        )

    return product


_mul = _product(lambda a, b: a * b)


def _div(a: Any, b: Any) -> Pair:
    if not isinstance(b, Pair):
        return _mul(a, 1 / b)
    size = b.re * b.re + b.im * b.im
    return _mul(a, Pair(b.re / size, -b.im / size))


def _abs(x: Pair) -> Tensor:
    return torch.sqrt(x.re * x.re + x.im * x.im)


def _polar(size: Tensor, angle: Tensor) -> Pair:
    return Pair(size * torch.cos(angle), size * torch.sin(angle))


def _exp(x: Pair) -> Pair:
    return _polar(torch.exp(x.re), x.im)


def _cast(x: Any, *args: Any, **kwargs: Any) -> Any:
    del args, kwargs
    return x if isinstance(x, Pair) else Pair(x, torch.zeros_like(x))


_PARTWISE = frozenset(
    [
        "fft_fftshift",
        "fft_ifftshift",
        "view",
        "reshape",
        "unsqueeze",
        "squeeze",
        "transpose",
        "permute",
        "slice",
        "select",
        "expand",
        "expand_as",
        "clone",
        "contiguous",
        "flatten",
        "alias",
        "detach",
        "repeat",
        "flip",
        "roll",
        "index_select",
        "narrow",
        "t",
        "movedim",
        "moveaxis",
        "unflatten",
        "index",
        "cat",
        "stack",
        "concat",
        "split",
        "split_with_sizes",
        "chunk",
        "unbind",
        "sum",
        "mean",
        "neg",
        "mT",
        "constant_pad_nd",
        "pad",
        "view_as",
        "swapaxes",
        "swapdims",
        "diagonal",
        "tile",
        "repeat_interleave",
        "cumsum",
    ]
)

RULES: dict[str, Callable[..., Any]] = {
    "view_as_complex": lambda x: Pair(x[..., 0], x[..., 1]),
    "view_as_real": lambda x: torch.stack(list(x), -1),
    "complex": Pair,
    "polar": _polar,
    "real": lambda x: x.re,
    "imag": lambda x: x.im,
    "abs": _abs,
    "angle": lambda x: torch.atan2(x.im, x.re),
    "conj": lambda x: Pair(x.re, -x.im),
    "conj_physical": lambda x: Pair(x.re, -x.im),
    "_conj": lambda x: Pair(x.re, -x.im),
    "resolve_conj": lambda x: x,
    "resolve_neg": lambda x: x,
    "to": _cast,
    "_to_copy": _cast,
    "exp": _exp,
    "log": lambda x: Pair(torch.log(_abs(x)), torch.atan2(x.im, x.re)),
    "square": lambda x: _mul(x, x),
    "add": _add,
    "add_": _add,
    "sub": _sub,
    "mul": _mul,
    "mul_": _mul,
    "div": _div,
    "matmul": _product(torch.matmul),
    "mm": _product(torch.matmul),
    "bmm": _product(torch.matmul),
    **TRANSFORMS,
}
"""By operator what computes it on pairs; the arguments are the operator's own."""
