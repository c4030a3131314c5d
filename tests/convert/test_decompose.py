"""Decomposition call by call gives what PyTorch's own gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgeconv.convert.torch.decompose import decompose
from edgeconv.convert.torch.functional_calls import Declined

IMAGE = torch.linspace(-2, 2, 2 * 4 * 6 * 6).reshape(2, 4, 6, 6)


class Network(nn.Module):
    """Calls of one kind twice, in-place calls, and what returns its argument or several values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])
        self.layer = nn.LayerNorm(16)
        self.drop = nn.Dropout(inplace=True)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = functional.relu_(self.norms[0](self.first(x)))
        y = functional.hardtanh_(self.norms[1](self.second(y)), 0.0, 6.0)
        y += x
        left, right = functional.adaptive_avg_pool2d(y, 4).chunk(2, 1)
        flat = self.drop(torch.flatten(left + right, 1))
        heads = self.layer(flat.reshape(2, 2, 16))
        out = functional.scaled_dot_product_attention(heads, heads, heads)
        return {"input": out, "top": out.max(-1).values, "same": self.drop(y)}


# Which of these a reshape becomes depends on strides, which ONNX does not have.
RESHAPES = ("aten.view.default", "aten._unsafe_view.default", "aten.clone.default")


def operators(program: torch.export.ExportedProgram) -> list[str]:
    calls = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    return [name for name in calls if name not in RESHAPES]


def exported(module: nn.Module, *inputs: torch.Tensor) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(module.eval(), inputs, strict=False)


def test_the_operators_and_the_values_are_pytorchs() -> None:
    torch.manual_seed(0)
    network = Network()
    program = exported(network, IMAGE)
    table = dict(torch.export.default_decompositions().items())
    found = decompose(program, table)
    expected = program.run_decompositions(dict(table))
    assert sorted(operators(found)) == sorted(operators(expected))
    with torch.no_grad():
        outputs, references = found.module()(IMAGE), network(IMAGE)
    assert list(outputs) == list(references)
    for name, reference in references.items():
        torch.testing.assert_close(outputs[name], reference)


def test_the_program_itself_stays_as_it_is() -> None:
    program = exported(Network(), IMAGE)
    before = str(program.graph)
    decompose(program, {})
    assert str(program.graph) == before


def test_inputs_named_like_builtins_keep_their_names() -> None:
    class Named(nn.Module):
        def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
            return functional.relu(input)

    found = decompose(exported(Named(), IMAGE), {})
    assert found.graph_signature.user_inputs == ("input",)


def overwritten_view(x: torch.Tensor) -> torch.Tensor:
    y = x + 1
    y.flatten(1)[:, :3].zero_()
    return y


def viewed_before(x: torch.Tensor) -> torch.Tensor:
    y = x + 1
    view = y.reshape(-1)
    y.relu_()
    return view


def overwritten_input(x: torch.Tensor) -> torch.Tensor:
    return x.relu_()


def wider(x: torch.Tensor) -> torch.Tensor:
    return (x.to(torch.float64) * 1).add_(x)


@pytest.mark.parametrize("function", [overwritten_view, viewed_before, overwritten_input, wider])
def test_shared_values_that_are_written_to_are_left_to_pytorch(
    function: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    class Module(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return function(x)

    program = exported(Module(), IMAGE.clone())
    with pytest.raises(Declined):
        decompose(program, dict(torch.export.default_decompositions().items()))


def test_open_dimensions_are_left_to_pytorch() -> None:
    shapes = ({0: torch.export.Dim("batch", min=2, max=8)},)
    program = torch.export.export(nn.ReLU(), (IMAGE,), dynamic_shapes=shapes)
    with pytest.raises(Declined):
        decompose(program, {})
