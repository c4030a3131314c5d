"""The values inside a PyTorch program, and which of them its ONNX file has.

The exporter decomposes the program, gives each ONNX value the name of the node that it computes,
and writes that node, as text, into the metadata of the ONNX node. Both must agree: a name alone,
in a file from elsewhere, is no evidence. What the exporter's optimiser fuses keeps the name and
the text of the last node that went into it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgeconv.convert.onnx.light import load_light_graph
from edgeconv.convert.torch.model import TorchModel
from edgeconv.convert.torch.quiet import quiet
from edgeconv.core.arrays import sample_of
from edgeconv.core.artifacts import Arrays
from edgeconv.core.streams import SampleWriter

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

_RECORD = "pkg.torch.onnx.fx_node"


@dataclass(frozen=True, slots=True)
class TorchMatch:
    """What an ONNX file has of a program.

    Attributes:
        shapes: Shapes of the program's float32 values that the file has too, by their name in
            both, in the program's order.
        unmatched: The program's other values: name, operator, and what became of them.
    """

    shapes: Mapping[str, tuple[int, ...]]
    unmatched: tuple[tuple[str, str, str], ...]


class Values(Protocol):
    """The values inside a PyTorch program, wherever that is."""

    def match(self, onnx: Path) -> TorchMatch:
        """Return what an ONNX file has of them."""

    def record(self, inputs: Arrays, names: Sequence[str], path: Path) -> None:
        """Write some of them for each sample; see `TorchValues.record`."""


@dataclass(frozen=True, slots=True)
class TorchValues:
    """The values inside a program that was exported to ONNX.

    Attributes:
        model: The model.
        program: What the exporter made of it, decomposed as the ONNX file is.
    """

    model: TorchModel
    program: ExportedProgram

    def match(self, onnx: Path) -> TorchMatch:
        """Return what an ONNX file has of the program's values.

        Args:
            onnx: The file.
        """
        recorded = _recorded(onnx)
        fields = self._fields()
        nodes = list(_tensors(self.program))
        became = {
            node: name
            for node in nodes
            for name in _names(node.name, fields)
            if _text(node) == recorded.get(name)
        }
        both = {node: name for node, name in became.items() if _is_float(node)}
        varying = _varying(self.program)
        unmatched = [
            (node.name, _operator(node), _why(node, became, both, varying))
            for node in nodes
            if node not in both
        ]
        shapes = {
            name: tuple(int(size) for size in node.meta["val"].shape) for node, name in both.items()
        }
        return TorchMatch(shapes, tuple(unmatched))

    def _fields(self) -> dict[str, str]:
        """Return by the name of a node the one that its value has in the file as an output."""
        outputs = [name for name in self.program.graph_signature.user_outputs if name is not None]
        fields = self.model.output_fields()
        if len(outputs) != len(fields):
            return {}
        return {str(name): field for name, field in zip(outputs, fields, strict=True) if field}

    def record(self, inputs: Arrays, names: Sequence[str], path: Path) -> None:
        """Write values of each sample as soon as they are computed, see `edgeconv.core.streams`.

        Args:
            inputs: Samples by input name, ``[sample, ...]``.
            names: What `match` found, or a part of it; a value's number is its place here.
            path: The file to write.

        Raises:
            InvalidData: A sample does not fit the model.
        """
        numbers = {name: number for number, name in enumerate(names)}
        fields = self._fields()
        numbers = {
            node.name: numbers[name]
            for node in _tensors(self.program)
            for name in _names(node.name, fields)
            if name in numbers
        }
        with closing(SampleWriter(path)) as writer:
            for index in range(len(next(iter(inputs.values())))):
                self._run(sample_of(inputs, index), partial(_write, writer, index, numbers))

    def _run(self, sample: Arrays, see: Callable[[str, Any], None]) -> None:
        """Show what every node computes."""
        import torch
        from torch.utils import _pytree as pytree

        class Watcher(torch.fx.Interpreter):
            def run_node(self, n: Node) -> Any:
                result = super().run_node(n)
                see(n.name, result)
                return result

        leaves = pytree.tree_leaves(self.model.arrange(self.model.tensors(sample)))
        with torch.no_grad(), quiet():
            Watcher(self.program.graph_module).run(*self._arguments(leaves))

    def _arguments(self, leaves: Sequence[Any]) -> Iterator[Any]:
        """Yield what the graph takes: weights and constants, and between them the inputs."""
        from torch.export.graph_signature import InputKind

        given = iter(leaves)
        held = {**self.program.constants, **self.program.state_dict}
        for spec in self.program.graph_signature.input_specs:
            yield next(given) if spec.kind is InputKind.USER_INPUT else held[str(spec.target)]


def _write(
    writer: SampleWriter, sample: int, numbers: Mapping[str, int], name: str, value: Any
) -> None:
    if name in numbers:
        writer.write(sample, numbers[name], value.numpy())


def _names(node: str, fields: Mapping[str, str]) -> list[str]:
    """Return the names that a node's value may have in a file; the last one has precedence.

    A name that an output has is no evidence of another node that is called so.
    """
    names = [node] if node not in fields.values() else []
    return [*names, fields[node]] if node in fields else names


def _tensors(program: ExportedProgram) -> Iterator[Node]:
    """Yield the nodes that compute one tensor."""
    import torch

    for node in program.graph.nodes:
        if node.op == "call_function" and isinstance(node.meta.get("val"), torch.Tensor):
            yield node


def _recorded(onnx: Path) -> dict[str, str]:
    """Return by ONNX value the node of the program that its metadata name."""
    return {
        str(output.name): node.metadata_props.get(_RECORD, "")
        for node in load_light_graph(onnx).graph
        for output in node.outputs
    }


def _text(node: Node) -> str:
    """Return the node as the exporter records it; of a part of a result, the whole one."""
    source = node.args[0] if node.target is operator.getitem else node
    return str(getattr(source, "format_node", str)())


def _operator(node: Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _is_float(node: Node) -> bool:
    import torch

    value = node.meta["val"]
    return value.dtype == torch.float32 and all(isinstance(size, int) for size in value.shape)


def _varying(program: ExportedProgram) -> set[Node]:
    """Return the nodes that depend on the inputs."""
    inputs = set(program.graph_signature.user_inputs)
    found: set[Node] = set()
    for node in program.graph.nodes:
        if node.name in inputs or any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found


def _why(
    node: Node, known: Collection[Node], named: Mapping[Node, str], varying: Collection[Node]
) -> str:
    if node in known:
        return "it is not float32"
    if node not in varying:
        return "folded into a constant"
    queue, seen = [node], {node}
    while queue:
        item = queue.pop(0)
        if item in named:
            return f"part of {named[item]}"
        fresh = [user for user in item.users if user not in seen]
        seen.update(fresh)
        queue += fresh
    return "no ONNX value holds it"
