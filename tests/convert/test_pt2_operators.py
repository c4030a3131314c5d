"""Programs may call all of torch's operators that compute tensors, and no other."""

from __future__ import annotations

import io
import math
import operator
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._export.serde.serialize import _SYM_OPS

from edgeconv.convert.torch.load import load_model
from edgeconv.convert.torch.model import TorchModel
from edgeconv.convert.torch.pt2_operators import NAMESPACES, REFUSED, is_known, listed

_REGISTERED = """
import torch
import torch.ao.quantization.fx._decomposed  # registers quantized_decomposed
print("\\n".join(torch._C._dispatch_get_all_op_names()))
"""


@cache
def registered() -> frozenset[str]:
    """Return every overload that the dispatcher of the installed torch has by itself.

    Asked of a process of its own: in this one other tests may have registered more.
    """
    command = [sys.executable, "-W", "ignore", "-c", _REGISTERED]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return frozenset(name for name in names if name.partition("::")[0] in NAMESPACES)


def target(name: str) -> str:
    """Return how a program is saved with an overload: ``aten::add.out``, ``aten::add``."""
    operator_name, _, overload = name.partition(".")
    return f"torch.ops.{operator_name.replace('::', '.')}.{overload or 'default'}"


def test_every_operator_of_the_installed_torch_is_decided() -> None:
    undecided = sorted(
        name
        for name in registered()
        if not is_known(target(name)) and name.partition(".")[0] not in REFUSED
    )
    assert not undecided, "add these to convert/torch/pt2_operators.txt, or to REFUSED"


def test_no_operator_is_both_known_and_refused() -> None:
    assert not listed() & set(REFUSED)
    packets = {name.partition(".")[0] for name in registered()}
    assert set(REFUSED) <= packets


def test_no_known_operator_takes_the_name_of_a_file() -> None:
    suspects = [
        schema.name
        for schema in torch._C._jit_get_all_schemas()
        if schema.name in listed()
        for argument in schema.arguments
        if argument.name in ("filename", "file", "path", "f")
        and str(argument.type) in ("str", "Optional[str]")
    ]
    assert not suspects


def test_the_arithmetic_of_sizes_is_known() -> None:
    modules: dict[Any, str] = {torch: "torch", operator: "_operator", math: "math"}
    for function in _SYM_OPS:
        name = function.__name__
        module = next(module for module in modules if getattr(module, name, None) is function)
        assert is_known(f"{modules[module]}.{name}"), function
    assert is_known("_operator.getitem")


@pytest.mark.parametrize(
    "name",
    [
        "torch.ops.aten.__and__.Tensor",
        "torch.ops.aten.__rshift__.Scalar",
        "torch.ops.aten.__ixor__.Tensor",
        "torch.ops.aten._softmax.default",
        "torch.ops.aten.add.Tensor",
        "torch.ops.higher_order.cond",
        "torch.ops.torchvision.deform_conv2d.default",
        "torch.ops.quantized_decomposed.quantize_per_tensor.default",
        "_operator.and_",
        "torch.sym_max",
    ],
)
def test_operators_that_programs_have(name: str) -> None:
    assert is_known(name)


@pytest.mark.parametrize(
    "name",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.from_file.out",
        "torch.ops.aten.save.default",
        "torch.ops.aten._print.default",
        "torch.ops.aten.warn.default",
        "torch.ops.prim.Print.default",
        "torch.ops.prim.PythonOp.default",
        "torch.ops.prim.rpc_sync.default",
        "torch.ops.higher_order.print",
        "torch.ops.higher_order.call_torchbind",
        "torch.ops.higher_order.invoke_leaf_function",
        "torch.ops.profiler._record_function_enter.default",
        "torch.ops.mine.operator.default",
        "torch.ops.aten.__init__",
        "torch.ops.aten.add.__init__",
        "torch.ops.aten.add.Tensor.decompose",
        "torch.ops.load_library",
        "torch.os.mkdir",
        "torch.load",
        "torch.sym_constrain_range.__class__",
        "_operator.call",
        "_operator.methodcaller",
        "_operator.attrgetter",
        "math.__loader__",
        "",
    ],
)
def test_operators_that_programs_must_not_have(name: str) -> None:
    assert not is_known(name)


class Masks(torch.nn.Module):
    """Bitwise operators on tensors and numbers, written as Python has them."""

    def forward(self, x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Mask ``x``."""
        mask = (keep & (x > 0)) | ~keep ^ (x < -1)
        whole = x.to(torch.int32)
        bits = ((whole >> 1) & 3) | (1 << (whole & 2)) ^ 5
        return torch.where(mask, x, x * 2) + bits


def test_masks_of_a_program_are_read(tmp_path: Path) -> None:
    inputs = (torch.randn(3, 4) * 9, torch.rand(3, 4) > 0.5)
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(Masks(), inputs), buffer)
    (tmp_path / "masks.pt2").write_bytes(buffer.getvalue())
    model = load_model(tmp_path / "masks.pt2")
    assert isinstance(model, TorchModel)
    found = model.run({"x": inputs[0].numpy(), "keep": inputs[1].numpy()})
    assert (found[0] == Masks()(*inputs).numpy()).all()
