"""SavedModels are looked through before TensorFlow loads them; what acts is refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from edgeconv.core.errors import InvalidModel
from edgeconv.toolchain.runtimes import saved_model

SPEC = tf.TensorSpec([1, 4], tf.float32, name="x")


def save(path: Path, function: Callable[[Any], Any], module: Any = None) -> str:
    """Save a function of one tensor as the signature."""
    module = module or tf.Module()
    module.f = tf.function(lambda x: {"y": function(x)}, input_signature=[SPEC], autograph=False)
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.f})
    return str(path)


def edit(directory: str, change: Callable[[Any], None]) -> str:
    file = Path(directory) / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(model.meta_graphs[0])
    file.write_bytes(model.SerializeToString())
    return directory


def refuse(directory: str) -> str:
    with pytest.raises(InvalidModel, match="does more than to compute tensors") as caught:
        saved_model.load(directory)
    return str(caught.value)


def write(x: Any) -> Any:
    tf.io.write_file("it-ran", "owned")
    return x + 1


def read(x: Any) -> Any:
    return x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)


def python(x: Any) -> Any:
    return tf.py_function(lambda v: v * 2, [x], tf.float32)


def printed(x: Any) -> Any:
    tf.print(x, output_stream="file://it-ran")
    return x + 1


def in_branch(x: Any) -> Any:
    return tf.cond(tf.reduce_sum(x) > 0, lambda: write(x), lambda: x)


def in_loop(x: Any) -> Any:
    return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, write(y)), [0, x])[1]


def in_nested_function(x: Any) -> Any:
    return tf.function(lambda y: tf.function(write)(y) * 2)(x)


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (write, "WriteFile (writes a file)"),
        (read, "ReadFile (reads a file)"),
        (python, "EagerPyFunc (calls Python)"),
        (printed, "PrintV2 (writes to a file)"),
        (in_branch, "WriteFile"),
        (in_loop, "WriteFile"),
        (in_nested_function, "WriteFile"),
    ],
)
def test_what_acts_is_refused_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Callable[[Any], Any], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named in refuse(save(tmp_path / "m", function))
    assert not (tmp_path / "it-ran").exists()


def test_what_a_file_writes_when_it_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The models above are live ones."""
    monkeypatch.chdir(tmp_path)
    loaded = tf.saved_model.load(save(tmp_path / "m", in_branch))
    loaded.signatures["serving_default"](x=tf.ones([1, 4]))
    assert (tmp_path / "it-ran").exists()


def test_what_initialises_is_looked_through(tmp_path: Path) -> None:
    rows = tmp_path / "rows.txt"
    rows.write_text("1 2\n")
    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(str(rows), tf.int64, 0, tf.int64, 1, delimiter=" "), -1
    )

    def look_up(x: Any) -> Any:
        return tf.cast(module.table.lookup(tf.cast(x, tf.int64)), tf.float32)

    directory = save(tmp_path / "m", look_up, module)
    assert "InitializeTableFromTextFileV2 (reads a file)" in refuse(directory)


HIDDEN = "__inference__traced_save_1"


def hide(meta: Any, *, as_operator: bool) -> None:
    """Give the function that writes the name of a checkpoint's, which alone would be exempt."""
    functions = meta.graph_def.library.function
    (writer,) = (
        item for item in functions if any(node.op == "WriteFile" for node in item.node_def)
    )
    name, writer.signature.name = writer.signature.name, HIDDEN
    everywhere = [meta.graph_def.node, *(item.node_def for item in functions)]
    calls = [node for nodes in everywhere for node in nodes if node.attr["f"].func.name == name]
    assert calls
    for node in calls:
        node.attr["f"].func.name = HIDDEN
        if as_operator:
            node.op = HIDDEN
            node.attr.clear()


@pytest.mark.parametrize("as_operator", [False, True])
def test_functions_that_hide_behind_checkpoints(tmp_path: Path, as_operator: bool) -> None:
    directory = save(tmp_path / "m", write)
    message = refuse(edit(directory, lambda meta: hide(meta, as_operator=as_operator)))
    assert f"WriteFile (writes a file), in WriteFile of {HIDDEN}" in message


def test_files_beside_and_outside(tmp_path: Path) -> None:
    directory = save(tmp_path / "m", lambda x: x + 1)
    edit(directory, lambda meta: setattr(meta.asset_file_def.add(), "filename", "../../x"))
    assert "outside of itself" in refuse(directory)
    directory = save(tmp_path / "n", lambda x: x + 1)
    (tmp_path / "n" / "saved_model.cpb").write_bytes(b"")
    assert "saved_model.cpb" in refuse(directory)


def test_damaged_and_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="cannot be read"):
        saved_model.load(str(tmp_path))
    (tmp_path / "saved_model.pb").write_bytes(b"\x0a\xff\xff")
    with pytest.raises(InvalidModel, match="truncated or corrupt"):
        saved_model.load(str(tmp_path))


def test_a_graph_of_tensorflow_1(tmp_path: Path) -> None:
    v1 = tf.compat.v1
    bodies: dict[str, Callable[[Any], Any]] = {"good": lambda x: x, "bad": read}
    for name, body in bodies.items():
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [1, 4], name="x")
            weight = v1.get_variable("w", [4], initializer=v1.ones_initializer())
            y = body(x * weight)
            session.run(v1.global_variables_initializer())
            v1.saved_model.simple_save(session, str(tmp_path / name), {"x": x}, {"y": y})
    loaded = saved_model.load(str(tmp_path / "good"))
    found: Any = loaded.signatures["serving_default"](x=tf.ones([1, 4]))["y"].numpy()
    assert found.tolist() == [[1.0, 1.0, 1.0, 1.0]]
    assert "ReadFile" in refuse(str(tmp_path / "bad"))


def test_honest_models_load(tmp_path: Path) -> None:
    module = tf.Module()
    module.w = tf.Variable(tf.ones([4, 4]))

    def network(x: Any) -> Any:
        y = tf.nn.relu(tf.matmul(x, module.w))
        y = tf.while_loop(lambda i, z: i < 3, lambda i, z: (i + 1, z * 2), [0, y])[1]
        z = tf.reshape(y, [1, 2, 2, 1])
        z = tf.nn.conv2d_transpose(z, tf.ones([2, 2, 1, 1]), [1, 4, 4, 1], 2)
        return tf.cond(tf.reduce_sum(z) > 0, lambda: tf.stop_gradient(z), lambda: -z)

    loaded = saved_model.load(save(tmp_path / "m", network, module))
    found = loaded.signatures["serving_default"](x=tf.ones([1, 4]))["y"].numpy()
    assert found.shape == (1, 4, 4, 1)
    assert float(found.max()) == 32.0


def test_every_listed_operator_is_known_to_tensorflow_and_takes_no_file() -> None:
    names = saved_model.listed()
    unknown = sorted(name for name in names if not hasattr(tf.raw_ops, name))
    assert not unknown
    files = {"filename", "filenames", "path", "file_pattern", "contents", "address"}
    suspects = [
        name
        for name in names
        if files & set(inspect.signature(getattr(tf.raw_ops, name)).parameters)
    ]
    assert not suspects
