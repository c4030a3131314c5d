"""Export a PyTorch model to ONNX: torch's exporter, and its TorchScript one where that fails."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgeconv.artifacts import Artifact
from edgeconv.convert.onnx_file import MAX_INLINE, describe_onnx, write_onnx
from edgeconv.convert.torch_model import TorchModel, evaluating
from edgeconv.errors import ConversionError

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["describe_onnx", "export"]

_log = logging.getLogger(__name__)

# The newest that the TorchScript exporter writes with every operator tested by its authors.
_TORCHSCRIPT_OPSET = 17
_CHATTY = ("torch.onnx", "torch.export", "torch._dynamo", "onnxscript", "onnx_ir", "torch.fx")


def export(model: TorchModel, path: Path, *, warn: Callable[[str], None] | None = None) -> Artifact:
    """Write a PyTorch model as ONNX.

    The names of the model's inputs are kept, each node keeps the PyTorch module and source line
    that it came from, weights lie inside the file up to 1.9 GB, and shapes are inferred.

    Args:
        model: The model.
        path: The file to write, under a temporary name first.
        warn: Called with each warning; warnings go to the log too.

    Returns:
        The ONNX artifact; its inputs are the model's.

    Raises:
        ConversionError: No exporter can express the model.
    """
    import torch

    exporters = [("torch.onnx", _export_program), ("TorchScript", _export_torchscript)]
    if isinstance(model.program, torch.jit.ScriptModule):
        del exporters[0]
    failures: list[tuple[str, Exception, str]] = []
    for label, exporter in exporters:
        chatter = io.StringIO()
        try:
            with _captured(chatter):
                artifact = exporter(model, path)
        except OSError:  # the disk, not the model
            raise
        except Exception as error:  # noqa: BLE001 - exporters raise anything; all of it is reported
            failures.append((label, error, chatter.getvalue()))
            continue
        if failures:
            _warn(
                f"torch's exporter failed ({_cause(failures[0][1])}); the TorchScript exporter "
                "was used instead",
                warn,
            )
        return artifact
    raise _failed(model, failures)


def _warn(text: str, warn: Callable[[str], None] | None) -> None:
    _log.warning("%s", text)
    if warn is not None:
        warn(text)


def _export_program(model: TorchModel, path: Path) -> Artifact:
    import torch

    args, kwargs = model.example_call
    with evaluating(model.function), torch.no_grad():
        program = torch.onnx.export(
            model.program,
            args,
            kwargs=kwargs,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return _save(program.model, model, path)


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
            input_names=[spec.name for spec in model.inputs],
            opset_version=_TORCHSCRIPT_OPSET,
        )
        return _save(ir.load(draft), model, path)


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
def _captured(chatter: io.StringIO) -> Iterator[None]:
    """Keep what exporters print, warn and log away from stdout and stderr."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    states = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(chatter),
            contextlib.redirect_stderr(chatter),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, (level, propagate) in zip(loggers, states, strict=True):
            logger.setLevel(level)
            logger.propagate = propagate


def _save(model: ir.Model, source: TorchModel, path: Path) -> Artifact:
    """Name the inputs and outputs, then write the file."""
    import onnx_ir as ir

    _name_inputs(model, source)
    _name_outputs(model)
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
                value.name = f"{value.name}__inner"
    for value, name in names.items():
        value.name = name


def _name_outputs(model: ir.Model) -> None:
    """Make sure that every output has a name and is not an input under the same name."""
    names = {value.name for value in model.graph.inputs}
    for number, value in enumerate(model.graph.outputs):
        if not value.name or value.name in names:
            raise ValueError(f"output {number} has no name of its own")
        names.add(value.name)


def _cause(error: Exception) -> str:
    """Return the innermost cause of an exporter's error in one line."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(cause))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0][:240] if lines else 'no message'}"


def _failed(model: TorchModel, failures: list[tuple[str, Exception, str]]) -> ConversionError:
    text = "; ".join(f"{label} exporter: {_cause(error)}" for label, error, _ in failures)
    details = "\n".join(
        f"--- {label} exporter\n{chatter}{''.join(traceback.format_exception(error))}"
        for label, error, chatter in failures
    )
    return ConversionError(
        "PyTorch cannot export this model to ONNX",
        where=model.where,
        why=text,
        hint="replace the operators named, or register an ONNX form for them; --verbose shows "
        "the exporters' reports",
        details=details,
    )
