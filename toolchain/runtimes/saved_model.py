"""Load a SavedModel, once everything in it that TensorFlow could execute has been looked through.

A SavedModel is a program: its operators read and write files, call Python and machines, and what
it names as its initialisation runs while it is loaded. ``saved_model_operators.txt`` lists what may
be executed, by the registered names: what computes tensors, holds variables, and calls other
functions. Saving and restoring are exempt where only TensorFlow's own checkpoint machinery, which
is not run from the file, refers to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from edgeconv.core.errors import InvalidModel

_SHOWN = 5
_CHECKPOINT = re.compile(r"__inference__traced_(?:save|restore)_\d+")
_INIT_KEYS = ("saved_model_main_op", "legacy_init_op")
# What a graph of TensorFlow 1 restores its variables with; the loader runs it.
_RESTORES = frozenset({"RestoreV2"})
_REASONS = {
    "WriteFile": "writes a file",
    "SaveV2": "writes files",
    "MergeV2Checkpoints": "writes and deletes files",
    "PrintV2": "writes to a file",
    "ReadFile": "reads a file",
    "WholeFileReaderV2": "reads files",
    "ImmutableConst": "reads a file as memory",
    "InitializeTableFromTextFileV2": "reads a file",
    "MatchingFiles": "lists files",
    "PyFunc": "calls Python",
    "PyFuncStateless": "calls Python",
    "EagerPyFunc": "calls Python",
    "RemoteCall": "calls another machine",
    "RpcCall": "calls another machine",
    "XlaCallModule": "holds a program of its own",
    "Abort": "ends the process",
}


def load(directory: str) -> Any:
    """Return what `tf.saved_model.load` returns.

    Raises:
        InvalidModel: It cannot be read, or would do more than to compute tensors.
        OSError: Its variables cannot be read; and what else TensorFlow raises.
    """
    judge(directory)
    return tf.saved_model.load(directory)


def judge(directory: str) -> None:
    """Look through ``saved_model.pb``, without having TensorFlow load it.

    Raises:
        InvalidModel: It cannot be read, or would do more than to compute tensors.
    """
    file = Path(directory) / "saved_model.pb"
    if file.with_suffix(".cpb").exists():
        raise _refused(directory, "it has a saved_model.cpb beside saved_model.pb")
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(file.read_bytes())
    except OSError as error:
        raise InvalidModel(
            "saved_model.pb cannot be read", where=directory, why=error.strerror or str(error)
        ) from error
    except Exception as error:
        # protobuf's DecodeError, whose class depends on the implementation that is installed.
        raise InvalidModel(
            "saved_model.pb is truncated or corrupt",
            where=directory,
            hint="copy or export the model again",
        ) from error
    for meta in model.meta_graphs:
        _judge_assets(meta, directory)
        _judge_graph(meta, directory)


@cache
def listed() -> frozenset[str]:
    """Return the operators that may be executed."""
    text = Path(__file__).with_name("saved_model_operators.txt").read_text(encoding="utf-8")
    return frozenset(text.split())


def _judge_assets(meta: Any, directory: str) -> None:
    for asset in meta.asset_file_def:
        path = PurePosixPath(asset.filename)
        if path.is_absolute() or ".." in path.parts:
            raise _refused(directory, f"it names a file outside of itself ({asset.filename[:80]})")


def _judge_graph(meta: Any, directory: str) -> None:
    functions = {item.signature.name: item for item in meta.graph_def.library.function}
    found: dict[str, str] = {}
    legacy = not meta.object_graph_def.nodes
    executed = list(_main_nodes(meta, legacy=legacy))
    allowed = listed() | _RESTORES if legacy else listed()
    _collect(executed, "the graph", allowed, functions, found)
    waiting = [name for name in functions if _CHECKPOINT.fullmatch(name) is None]
    waiting += [*_object_functions(meta.object_graph_def), *_called(executed)]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        nodes = functions[name].node_def
        _collect(nodes, name, listed(), functions, found)
        waiting += _called(nodes)
    if found:
        names = [f"{op} ({_REASONS[op]})" if op in _REASONS else op for op in found]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        what = ", ".join(names[:_SHOWN])
        raise _refused(directory, f"it executes {what}{more}, {next(iter(found.values()))}")


def _collect(
    nodes: Iterable[Any],
    place: str,
    allowed: frozenset[str],
    functions: Iterable[str],
    found: dict[str, str],
) -> None:
    """Note the operators that may not be executed, each with the node that is the first one."""
    for node in nodes:
        # A function may be called by its name, as an operator.
        if node.op not in allowed and node.op not in functions:
            found.setdefault(node.op, f"in {node.name} of {place}")


def _main_nodes(meta: Any, *, legacy: bool) -> Iterator[Any]:
    """Yield the nodes outside of functions that a signature, or what runs at loading, needs."""
    nodes = {node.name: node for node in meta.graph_def.node}
    waiting = [
        tensor.name
        for signature in meta.signature_def.values()
        for tensor in (*signature.inputs.values(), *signature.outputs.values())
    ]
    for signature in meta.signature_def.values():
        for tensors in (signature.inputs, signature.outputs):
            waiting += [
                part.name for info in tensors.values() for part in info.composite_tensor.components
            ]
    for key in _INIT_KEYS:
        waiting += meta.collection_def[key].node_list.value if key in meta.collection_def else ()
    if legacy:
        waiting += [meta.saver_def.restore_op_name, meta.saver_def.filename_tensor_name]
        # Also what a collection names, such as the initialisers of tables.
        for collection in meta.collection_def.values():
            waiting += collection.node_list.value
    seen: set[str] = set()
    while waiting:
        name = waiting.pop().removeprefix("^").partition(":")[0]
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        yield nodes[name]
        waiting += nodes[name].input


def _object_functions(objects: Any) -> Iterator[str]:
    """Yield the functions that the objects of the model have."""
    yield from objects.concrete_functions
    for node in objects.nodes:
        kind = node.WhichOneof("kind")
        if kind == "function":
            yield from node.function.concrete_functions
        elif kind == "bare_concrete_function":
            yield node.bare_concrete_function.concrete_function_name


def _called(nodes: Iterable[Any]) -> Iterator[str]:
    """Yield the functions that nodes call."""
    for node in nodes:
        yield node.op
        for value in node.attr.values():
            yield from _named(value)


def _named(value: Any) -> Iterator[str]:
    for function in (*([value.func] if value.HasField("func") else ()), *value.list.func):
        yield function.name
        for inner in function.attr.values():
            yield from _named(inner)


def _refused(directory: str, why: str) -> InvalidModel:
    return InvalidModel(
        "this SavedModel does more than to compute tensors",
        where=directory,
        why=why,
        hint="nothing of it has run; export the inference part alone, or do not trust it",
    )
