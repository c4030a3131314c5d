"""Export a PyTorch model to ONNX: torch's exporter, and its TorchScript one where that fails."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from copy import copy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgeconv.convert.onnx.file import MAX_INLINE, describe_onnx, write_onnx
from edgeconv.convert.torch.data_dependent import size_depends_on_data
from edgeconv.convert.torch.decompose import Table, decompose
from edgeconv.convert.torch.early_export import exported
from edgeconv.convert.torch.export_errors import Failure, cause_of, export_failed
from edgeconv.convert.torch.export_shortcuts import export_shortcuts
from edgeconv.convert.torch.functional_calls import without_assertions
from edgeconv.convert.torch.model import TorchModel, evaluating
from edgeconv.convert.torch.output_names import name_outputs
from edgeconv.convert.torch.quiet import captured
from edgeconv.convert.torch.resizes import as_torch
from edgeconv.core.artifacts import Artifact

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch.export import ExportedProgram
    from torch.onnx import ONNXProgram

__all__ = ["describe_onnx", "export"]

_log = logging.getLogger(__name__)

# The newest that the TorchScript exporter writes with every operator tested by its authors.
_TORCHSCRIPT_OPSET = 17


def export(
    model: TorchModel,
    path: Path,
    *,
    warn: Callable[[str], None] | None = None,
    keep: Callable[[ExportedProgram], None] | None = None,
) -> Artifact:
    """Write a PyTorch model as ONNX.

    The names of the model's inputs are kept, outputs are called after the fields that the model
    returns them in, if it names any, each node keeps the PyTorch module and source line
    that it came from, weights lie inside the file up to 1.9 GB, and shapes are inferred.

    Args:
        model: The model.
        path: The file to write, under a temporary name first.
        warn: Called with each warning; warnings go to the log too.
        keep: Called with the program that the file was made from, decomposed as the file is;
            not where the TorchScript exporter made it.

    Returns:
        The ONNX artifact; its inputs are the model's.

    Raises:
        ConversionError: No exporter can express the model.
    """
    import torch

    exporters = [("torch.onnx", partial(_export_program, keep=keep))]
    exporters += [("TorchScript", partial(_export_torchscript))]
    if isinstance(model.program, torch.jit.ScriptModule):
        del exporters[0]
    failures: list[Failure] = []
    for label, exporter in exporters:
        chatter = io.StringIO()
        try:
            with captured(chatter) as caught, _without_garbage_collection():
                artifact = exporter(model, path)
        except OSError:  # the disk, not the model
            raise
        except Exception as error:  # noqa: BLE001 - exporters raise anything; all of it is reported
            failures.append(Failure(label, error, chatter.getvalue()))
            if size_depends_on_data(error):
                break
            continue
        if failures:
            cause = cause_of(failures[0].error, model)
            _warn(f"torch's exporter failed ({cause}); its TorchScript exporter was used", warn)
        if places := _frozen_branches(caught):
            _warn(f"the export keeps only the path that the example input takes at {places}", warn)
        return artifact
    raise export_failed(model, failures)


def _warn(text: str, warn: Callable[[str], None] | None) -> None:
    _log.warning("%s", text)
    if warn is not None:
        warn(text)


def decomposed(model: TorchModel) -> ExportedProgram | None:
    """Return the program that torch's exporter makes ONNX of; ``None`` where it cannot."""
    import torch

    if isinstance(model.program, torch.jit.ScriptModule):
        return None
    try:
        with captured(io.StringIO()), _without_garbage_collection():
            return _onnx_program(model, optimize=False).exported_program
    except Exception:  # noqa: BLE001 - exporters raise anything
        return None


def _onnx_program(model: TorchModel, *, optimize: bool) -> ONNXProgram:
    import torch

    args, kwargs = model.example_call
    with evaluating(model.function), torch.no_grad(), export_shortcuts():
        program = torch.onnx.export(
            _quickly_decomposed(model.captured or model.program, args, kwargs),
            args,
            kwargs=kwargs,
            dynamo=True,
            verbose=False,
            optimize=optimize,
        )
    assert program is not None
    return program


def _quickly_decomposed(program: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return a program that decomposes faster than torch's own; else what is given.

    The exporter calls the method that is replaced here. It captures modules in the same way, and
    in others where that fails; none of them gets past a size that depends on data.

    Raises:
        Exception: PyTorch's, where such a size is in the way.
    """
    import torch

    from edgeconv.convert.torch.complex_numbers import has_complex, in_real_numbers
    from edgeconv.convert.torch.decompositions import decompositions

    if not isinstance(program, torch.export.ExportedProgram):
        try:
            program = exported(program, args, kwargs)
        except Exception as error:
            if size_depends_on_data(error):
                raise
            return program  # the exporter meets it too, and reports it
    if has_complex(program):
        program = in_real_numbers(program, (args, kwargs))
    program = copy(program)
    original = program.run_decompositions

    def run_decompositions(table: Table) -> ExportedProgram:
        table = {**table, **decompositions(program)}
        try:
            return decompose(program, table)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is another way
            _log.debug("decomposed by PyTorch: %s", error)
            decomposed: ExportedProgram = original(dict(table))
            return without_assertions(decomposed)

    program.run_decompositions = run_decompositions
    return program


def _export_program(
    model: TorchModel, path: Path, *, keep: Callable[[ExportedProgram], None] | None
) -> Artifact:
    program = _onnx_program(model, optimize=True)
    if program.exported_program is not None:
        as_torch(program.model, program.exported_program)
    artifact = _save(program.model, model, path)
    if keep is not None and program.exported_program is not None:
        keep(program.exported_program)
    return artifact


def _export_torchscript(model: TorchModel, path: Path) -> Artifact:
    import onnx_ir as ir
    import torch

    args, kwargs = model.example_call
    with (
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder,
        _plain_attention(),
        evaluating(model.function),
        torch.no_grad(),
    ):
        draft = Path(folder) / "model.onnx"
        torch.onnx.export(
            cast("torch.nn.Module", model.function),
            (*args, kwargs) if kwargs else args,
            str(draft),
            dynamo=False,
            input_names=list(model.input_names),
            output_names=_plain_output_names(model),
            opset_version=_TORCHSCRIPT_OPSET,
            # `evaluating` has set the mode; the module of an exported program refuses to be set.
            training=torch.onnx.TrainingMode.PRESERVE,
        )
        return _save(ir.load(draft), model, path)


def _plain_output_names(model: TorchModel) -> list[str]:
    """Return names for outputs that the TorchScript exporter would only number."""
    fields = model.output_fields()
    count = len(fields)
    names = ["output"] if count == 1 else [f"output_{number}" for number in range(count)]
    taken = {*model.input_names, *fields}
    return [
        field or (f"{name}_" if name in taken else name)
        for field, name in zip(fields, names, strict=True)
    ]


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Keep attention layers from taking their fused path, which has no ONNX form."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Pause the collector: exporters allocate small objects by the million, and free few.

    That takes 15 % off the export of MobileNetV2.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _frozen_branches(caught: list[warnings.WarningMessage]) -> str:
    """Return where a trace took a decision that depends on the example input, or ``""``."""
    places = [
        f"{Path(message.filename).name}:{message.lineno}"
        for message in caught
        if message.category.__name__ == "TracerWarning" and "/torch/" not in message.filename
    ]
    return ", ".join(dict.fromkeys(places))


def _save(model: ir.Model, source: TorchModel, path: Path) -> Artifact:
    """Name the inputs and outputs, then write the file."""
    import onnx_ir as ir

    _name_inputs(model, source)
    name_outputs(model.graph, source.output_fields())
    _require_names(model)
    size = sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )
    if size <= MAX_INLINE:
        return write_onnx(ir.to_proto(model), path, base=path.parent, inline=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        draft = Path(folder) / "model.onnx"
        ir.save(model, draft, external_data="model.data")
        import onnx

        proto = onnx.load(draft, load_external_data=False)
        return write_onnx(proto, path, base=Path(folder), inline=False)


def _name_inputs(model: ir.Model, source: TorchModel) -> None:
    """Give the graph the inputs of the PyTorch model: all of them, in order, under their names.

    The new exporter keeps every input, in order; the TorchScript one drops those without use.
    """
    graph = model.graph
    present = list(graph.inputs)
    if len(present) == len(source.inputs):
        _rename(graph, dict(zip(present, (spec.name for spec in source.inputs), strict=True)))
    by_name = {value.name: value for value in present}
    unknown = [value.name for value in present if value.name not in source.input_names]
    if unknown:
        raise ValueError(f"the exporter made the inputs {unknown} of {source.input_names}")
    graph.inputs.clear()
    graph.inputs.extend(
        by_name.get(spec.name) or _unused_input(spec.name, spec.shape, spec.dtype)
        for spec in source.inputs
    )


def _unused_input(name: str, shape: tuple[int | None, ...], dtype: str) -> ir.Value:
    import numpy as np
    import onnx_ir as ir

    kind = ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype)))
    return ir.Value(name=name, shape=ir.Shape(shape), type=kind)


def _rename(graph: ir.Graph, names: dict[ir.Value, str]) -> None:
    """Rename values; others that have such a name already get another one."""
    wanted = set(names.values())
    for node in graph.all_nodes():
        for value in node.outputs:
            if value.name in wanted and value not in names:
                suffix = "output" if value in graph.outputs else "inner"
                value.name = f"{value.name}_{suffix}"
    for value, name in names.items():
        value.name = name


def _require_names(model: ir.Model) -> None:
    """Make sure that every output has a name and is not an input under the same name."""
    names = {value.name for value in model.graph.inputs}
    for number, value in enumerate(model.graph.outputs):
        if not value.name or value.name in names:
            raise ValueError(f"output {number} has no name of its own")
        names.add(value.name)
