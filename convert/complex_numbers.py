"""Complex numbers as pairs of real ones: neither TFLite nor ONNX's exporter computes with them.

A program that has them is run by an interpreter that keeps a real and an imaginary part of each,
and traced again. Fourier transforms are products with constant matrices, short-time ones
convolutions with the windowed waves. Source: the definitions in the documentation of `torch.fft`,
`torch.stft` and `torch.istft`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - as everyone calls it
from torch import Tensor
from torch.utils import _pytree as pytree

from edgeconv.convert.single_precision import open_dimensions
from edgeconv.convert.torch_model import Call

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node


class Unreal(Exception):
    """An operator on complex numbers that is not known here; `str` names it."""


class Pair(NamedTuple):
    """A complex tensor."""

    re: Tensor
    im: Tensor


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
    return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)


class _Real(torch.nn.Module):
    """Runs a graph module with pairs in place of complex tensors."""

    def __init__(self, graph: torch.fx.GraphModule) -> None:
        super().__init__()
        self.graph_module = graph
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


def _attribute(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name, None)
    return module


class _Interpreter(torch.fx.Interpreter):
    def __init__(self, graph: torch.fx.GraphModule, owner: _Real) -> None:
        super().__init__(graph)
        self._owner = owner

    def run_node(self, n: Node) -> Any:
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


def _waves(rows: int, columns: int, length: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of 2 pi j k / length, whose turns are reduced before."""
    angles = 2 * np.pi * (np.outer(np.arange(rows), np.arange(columns)) % length) / length
    return torch.from_numpy(np.cos(angles).astype(np.float32)), torch.from_numpy(
        np.sin(angles).astype(np.float32)
    )


def _factor(norm: str | None, length: int, *, inverse: bool) -> float:
    if norm == "ortho":
        return 1 / math.sqrt(length)
    return 1 / length if (norm == "forward") != inverse else 1.0


def _sized(x: Tensor, dim: int, count: int) -> Tensor:
    """Return a tensor with its transformed axis last, cut or filled to a length."""
    x = x.movedim(dim, -1)
    return x[..., :count] if x.shape[-1] >= count else F.pad(x, (0, count - x.shape[-1]))


def _fourier(*, inverse: bool, onesided: bool) -> Callable[..., Pair]:
    """Return ``fft``, ``ifft`` or ``rfft``."""

    def transform(x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Pair:
        re, im = (x.re, x.im) if isinstance(x, Pair) else (x, None)
        length = n or re.shape[dim]
        cosines, sines = _waves(length, length // 2 + 1 if onesided else length, length)
        factor = _factor(norm, length, inverse=inverse)
        cosines, sines = cosines * factor, (sines if inverse else -sines) * factor
        re = _sized(re, dim, length)
        real, imaginary = re @ cosines, re @ sines
        if im is not None:
            im = _sized(im, dim, length)
            real, imaginary = real - im @ sines, imaginary + im @ cosines
        return Pair(real.movedim(-1, dim), imaginary.movedim(-1, dim))

    return transform


def _inverse_waves(length: int, count: int) -> tuple[Tensor, Tensor]:
    """Return what real and imaginary parts of one-sided coefficients [count] are multiplied by."""
    cosines, sines = _waves(count, length, length)
    twice = torch.tensor([1.0 if k in (0, length - k) else 2.0 for k in range(count)])[:, None]
    return cosines * twice / length, -sines * twice / length


def _irfft(x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    re, im = (x.re, x.im) if isinstance(x, Pair) else (x, torch.zeros_like(x))
    length = n or 2 * (re.shape[dim] - 1)
    count = length // 2 + 1
    factor = _factor(norm, length, inverse=True) * length
    cosines, sines = _inverse_waves(length, count)
    found = (_sized(re, dim, count) @ cosines + _sized(im, dim, count) @ sines) * factor
    return found.movedim(-1, dim)


def _along_axes(last: Callable[..., Any], rest: Callable[..., Pair], *, real_end: bool) -> Any:
    """Return a transform of several axes out of those of one."""

    def transform(
        x: Any, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: Any = None
    ) -> Any:
        sizes = list(s) if s is not None else [None] * len(dim)
        if not real_end:
            x = last(x, sizes[-1], dim[-1], norm)
        for axis, size in list(zip(dim, sizes, strict=True))[:-1]:
            x = rest(x, size, axis, norm)
        return last(x, sizes[-1], dim[-1], norm) if real_end else x

    return transform


def _window(window: Tensor | None, length: int, size: int) -> Tensor:
    """Return a window of an FFT's size, a shorter one in its middle."""
    held = torch.ones(length) if window is None else window
    left = (size - length) // 2
    return F.pad(held, (left, size - length - left)) if length != size else held


def _stft(
    x: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Pair:
    """``aten::stft`` of real signals [B, L] or [L]: a convolution with the windowed waves."""
    del return_complex, align_to_window
    count = n_fft if onesided is False else n_fft // 2 + 1
    cosines, sines = _waves(n_fft, count, n_fft)
    kernel = torch.cat([cosines.T, -sines.T]) * _window(window, win_length or n_fft, n_fft)
    if normalized:
        kernel = kernel / math.sqrt(n_fft)
    rows = x.reshape(-1, 1, x.shape[-1])
    found = F.conv1d(rows, kernel[:, None], stride=hop_length or n_fft // 4)
    found = found.reshape(*x.shape[:-1], 2 * count, found.shape[-1])
    return Pair(found.narrow(-2, 0, count), found.narrow(-2, count, count))


def _istft(
    x: Pair,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """``aten::istft``: frames by the inverse transform, added up, over the windows added up."""
    if return_complex or onesided is False:
        raise Unreal("complex numbers: aten.istft with a two-sided or complex result")
    hop, count = hop_length or n_fft // 4, n_fft // 2 + 1
    shape = _window(window, win_length or n_fft, n_fft)
    kernel = torch.cat(_inverse_waves(n_fft, count)) * shape
    if normalized:
        kernel = kernel * math.sqrt(n_fft)
    steps = x.re.shape[-1]
    rows = torch.cat([x.re, x.im], -2).reshape(-1, 2 * count, steps)
    summed = F.conv_transpose1d(rows, kernel[:, None], stride=hop)
    weights = F.conv_transpose1d(torch.ones(1, 1, steps), (shape * shape)[None, None], stride=hop)
    start = n_fft // 2 if center else 0
    whole = summed.shape[-1]
    end = start + length if length is not None else whole - start
    found = summed[..., start : min(end, whole)] / weights[..., start : min(end, whole)]
    if end > whole:
        found = F.pad(found, (0, end - whole))
    return found.reshape(*x.re.shape[:-2], end - start)


_FFT = _fourier(inverse=False, onesided=False)
_IFFT = _fourier(inverse=True, onesided=False)
_RFFT = _fourier(inverse=False, onesided=True)

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
    "fft_fft": _FFT,
    "fft_ifft": _IFFT,
    "fft_rfft": _RFFT,
    "fft_irfft": _irfft,
    "fft_fft2": _along_axes(_FFT, _FFT, real_end=False),
    "fft_ifft2": _along_axes(_IFFT, _IFFT, real_end=False),
    "fft_rfft2": _along_axes(_RFFT, _FFT, real_end=False),
    "fft_irfft2": _along_axes(_irfft, _IFFT, real_end=True),
    "stft": _stft,
    "istft": _istft,
}
"""By operator what computes it on pairs; the arguments are the operator's own."""
