"""Every kind of model file is recognised by its content; every bad one gets its own message."""

from __future__ import annotations

import io
import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeconv.convert.torch.load import load_model, parse_input_shapes
from edgeconv.convert.torch.model import TorchModel, from_module
from edgeconv.core.artifacts import Artifact
from edgeconv.core.errors import InvalidData, InvalidModel, UsageError
from edgeconv.core.input_shapes import InputShapes


class Net(torch.nn.Module):
    """A convolution and dropout, which makes a network in training mode random."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.drop(self.conv(image))
        return features.mean((2, 3))


SHAPE = (1, 3, 8, 8)
FACTORY = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.drop = nn.Dropout(0.5)
        def forward(self, image):
            return self.drop(self.conv(image)).mean((2, 3))

    def broken():
        return nn.Linear(3, "four")

    def nothing():
        return 7

    linear = nn.Linear(2, 2)
    number = 3
"""


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def exported(net: Net) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(net, (torch.ones(SHAPE),)), buffer)
    return buffer.getvalue()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with a module ``made_here`` in it."""
    (tmp_path / "made_here.py").write_text(textwrap.dedent(FACTORY))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("made_here", None)


def load_torch(*args: object, **options: object) -> TorchModel:
    model = load_model(*args, **options)  # type: ignore[arg-type]  # passed on as they come
    assert isinstance(model, TorchModel)
    return model


def assert_computes(model: TorchModel, net: torch.nn.Module) -> None:
    image = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(image)).numpy()
    (found,) = model.run({"image": image})
    np.testing.assert_allclose(found, expected, atol=1e-6)


def save_exported(net: Net, path: Path, exported: bytes) -> None:
    path.write_bytes(exported)


def save_traced(net: Net, path: Path, exported: bytes) -> None:
    torch.jit.trace(net, torch.ones(SHAPE)).save(str(path))


def save_scripted(net: Net, path: Path, exported: bytes) -> None:
    torch.jit.script(net).save(str(path))


@pytest.mark.parametrize("save", [save_exported, save_traced, save_scripted])
@pytest.mark.parametrize("name", ["model.pt2", "model.onnx", "model"])
def test_files_with_a_model(
    net: Net,
    exported: bytes,
    tmp_path: Path,
    save: Callable[[Net, Path, bytes], None],
    name: str,
) -> None:
    save(net, tmp_path / name, exported)
    shapes = None if save is save_exported else {"image": SHAPE}
    model = load_torch(tmp_path / name, input_shapes=shapes)
    assert [(spec.name, spec.shape, spec.dtype) for spec in model.inputs] == [
        ("image", SHAPE, "float32")
    ]
    assert model.name == "model"
    assert_computes(model, net)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_state_dict_with_a_factory(net: Net, here: Path, zipped: bool, wrapped: bool) -> None:
    weights = net.state_dict()
    if wrapped:  # a training checkpoint of DataParallel
        weights = {f"module.{name}": value for name, value in weights.items()}
    content = {"epoch": 3, "state_dict": weights} if wrapped else weights
    torch.save(content, here / "w.bin", _use_new_zipfile_serialization=zipped)
    model = load_torch("w.bin", factory="made_here:Net", input_shapes=[SHAPE])
    assert_computes(model, net)
    assert str(here) not in sys.path


def test_factory_without_a_file(here: Path) -> None:
    model = load_torch(None, factory="made_here:Net", input_shapes={"image": SHAPE})
    assert model.name == "Net"
    assert model.run({"image": np.ones(SHAPE, np.float32)})[0].shape == (1, 4)
    assert load_torch(None, factory="made_here:linear", input_shapes=[(5, 2)]).name == "linear"


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("made_here", "does not name a function"),
        ("no_such_module:f", "cannot import no_such_module"),
        ("made_here:missing", "has no 'missing'"),
        ("made_here:number", "not a function"),
        ("made_here:nothing", "returned a int"),
        ("made_here:broken", r"TypeError.*made_here|factory failed"),
    ],
)
def test_factories_that_do_not_work(here: Path, factory: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_model(None, factory=factory, input_shapes=[SHAPE])


def test_state_dict_of_another_model(here: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), here / "w.pt")
    with pytest.raises(UsageError, match=r"missing conv\.weight.*unexpected weight"):
        load_model("w.pt", factory="made_here:Net", input_shapes=[SHAPE])
    torch.save(torch.nn.Linear(2, 3).state_dict(), here / "w.pt")
    with pytest.raises(UsageError, match="weight is 3x2, the model has 2x2"):
        load_model("w.pt", factory="made_here:linear", input_shapes=[(5, 2)])


def test_state_dict_without_a_factory(net: Net, tmp_path: Path) -> None:
    torch.save(net.state_dict(), tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"factory package\.module:factory"):
        load_model(tmp_path / "w.pt", input_shapes=[SHAPE])


def test_factory_beside_a_file_that_holds_its_model(
    exported: bytes, net: Net, tmp_path: Path, here: Path
) -> None:
    (tmp_path / "m").write_bytes(exported)
    with pytest.raises(UsageError, match="factory made_here:Net makes no sense"):
        load_model(tmp_path / "m", factory="made_here:Net")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m")
    with pytest.raises(UsageError, match="holds a whole module"):
        load_model(tmp_path / "m", factory="made_here:Net", trust_pickle=True)
    with pytest.raises(UsageError, match="there is no model"):
        load_model(None)


def test_missing_shapes_are_asked_for(net: Net, tmp_path: Path) -> None:
    torch.jit.script(net).save(str(tmp_path / "m.pt"))
    with pytest.raises(UsageError, match=r"input_shapes image=1,3,224,224") as caught:
        load_model(tmp_path / "m.pt")
    assert "does not carry them" in str(caught.value)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"image": (1, 3, 9, 9)}, r"another shape.*\n?.*expected 1,3,8,8, got 1,3,9,9"),
        ({"image": (3, 8, 8)}, "another rank"),
        ({"img": SHAPE}, "does not have"),
        ([SHAPE, SHAPE], "is given 2 times"),
    ],
)
def test_shapes_that_do_not_fit_the_file(
    exported: bytes, tmp_path: Path, shapes: object, message: str
) -> None:
    (tmp_path / "m.pt2").write_bytes(exported)
    with pytest.raises(UsageError, match=message):
        load_torch(tmp_path / "m.pt2", input_shapes=shapes)


def test_shapes_that_the_module_cannot_take(here: Path) -> None:
    with pytest.raises(InvalidModel, match=r"fails when it runs.*\n.*input_shapes"):
        load_model(None, factory="made_here:Net", input_shapes=[(1, 5, 8, 8)])


@pytest.fixture(scope="module")
def open_program() -> bytes:
    class Open(torch.nn.Module):
        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            both = torch.cat([ids, ids], 1).reshape(-1, 2)
            return both.float().sum() + mask[:, : ids.shape[1] // 2].sum() * ids.shape[0]

    sizes = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    program = torch.export.export(
        Open(),
        (torch.ones(4, 6, dtype=torch.int64), torch.ones(4, 6)),
        dynamic_shapes=(sizes, sizes),
    )
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def test_open_dimensions_are_pinned(open_program: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(open_program)
    with pytest.raises(UsageError, match=r"input_shapes ids=2,2 input_shapes mask=2,2"):
        load_model(tmp_path / "m.pt2")
    model = load_torch(tmp_path / "m.pt2", input_shapes={"ids": (2, 8), "mask": (2, 8)})
    assert [(spec.name, spec.shape, spec.dtype) for spec in model.inputs] == [
        ("ids", (2, 8), "int64"),
        ("mask", (2, 8), "float32"),
    ]
    feeds = {"ids": np.full((2, 8), 3), "mask": np.ones((2, 8), np.float32)}
    assert model.run(feeds)[0] == 2 * 2 * 8 * 3 + 2 * 4 * 2
    with pytest.raises(UsageError, match="does not take inputs of these shapes"):
        load_model(tmp_path / "m.pt2", input_shapes={"ids": (2, 8), "mask": (2, 1)})


def test_a_model_in_training_mode_is_refused(tmp_path: Path) -> None:
    training = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Dropout())
    program = torch.export.export(training, (torch.ones(4, 3),))
    torch.export.save(program, tmp_path / "m.pt2")
    with pytest.raises(InvalidModel, match=r"exported for training.*\n.*model\.eval"):
        load_model(tmp_path / "m.pt2")


def test_a_random_model_is_refused() -> None:
    class Random(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand_like(x)

    with pytest.raises(InvalidModel, match="different outputs for the same input"):
        from_module(Random(), torch.ones(2))


def test_a_module_in_memory_keeps_its_mode() -> None:
    module = Net().train()
    module.conv.eval()
    model = from_module(module, torch.ones(SHAPE))
    model.run({"image": np.ones(SHAPE, np.float32)})
    assert (module.training, module.conv.training, module.drop.training) == (True, False, True)


def test_nested_inputs_and_outputs_are_flattened() -> None:
    class Nested(torch.nn.Module):
        def forward(self, x: dict[str, torch.Tensor], n: int = 2, *more: torch.Tensor) -> object:
            return {"b": (x["p"] * n, None), "a": [x["q"].sum() + sum(more), 3]}

    inputs = ({"p": torch.ones(2), "q": torch.ones(3, dtype=torch.int64)}, 5, torch.ones(1))
    model = from_module(Nested(), inputs, "nested")
    assert model.input_names == ("x_p", "x_q", "more_0")
    feeds = {
        "x_p": np.ones(2, np.float32),
        "x_q": np.array([1, 2, 3]),
        "more_0": np.ones(1, np.float32),
    }
    outputs = model.run(feeds)
    assert [output.tolist() for output in outputs] == [[5.0, 5.0], [7.0], 3]


def test_run_checks_its_arrays(exported: bytes, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(exported)
    model = load_torch(tmp_path / "m")
    with pytest.raises(InvalidData, match="expected image; got x"):
        model.run({"x": np.ones(SHAPE, np.float32)})
    with pytest.raises(InvalidData, match="expected float32 1,3,8,8, got float64 1,3,8,8"):
        model.run({"image": np.ones(SHAPE)})


def test_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="no such file"):
        load_model(tmp_path / "missing.pt2")
    with pytest.raises(InvalidModel, match="a directory, not a model"):
        load_model(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(InvalidModel, match="TensorFlow SavedModel"):
        load_model(tmp_path)
    (tmp_path / "empty.pt").touch()
    with pytest.raises(InvalidModel, match="is empty"):
        load_model(tmp_path / "empty.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x1c\x00\x00\x00TFL3" + bytes(100), "TFLite model already"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (b'\x40\0\0\0\0\0\0\0{"w":{"dtype":"F32"}}', "safetensors"),
        (b"hello, I am a text", "not a model file that edgeconv reads"),
        (b"PK\x03\x04 and then nothing", "truncated or corrupt"),
        (b"\x80\x02 and then nothing", "truncated or corrupt"),
    ],
)
def test_foreign_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(InvalidModel, match=message):
        load_model(tmp_path / "m")


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", x=np.ones(3))
    with pytest.raises(InvalidModel, match=r"holds no PyTorch model.*npz"):
        load_model(tmp_path / "m.npz")


@pytest.mark.parametrize("save", [save_exported, save_traced])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.98])
def test_truncated_archives(
    net: Net,
    exported: bytes,
    tmp_path: Path,
    save: Callable[[Net, Path, bytes], None],
    part: float,
) -> None:
    save(net, tmp_path / "m", exported)
    content = (tmp_path / "m").read_bytes()
    (tmp_path / "m").write_bytes(content[: int(len(content) * part)])
    with pytest.raises(InvalidModel, match="truncated or corrupt"):
        load_model(tmp_path / "m", input_shapes=[SHAPE])


def test_damaged_members(exported: bytes, tmp_path: Path) -> None:
    for member in ("models/model.json", "model_weights_config.json", "weights/weight_0"):
        with (
            zipfile.ZipFile(io.BytesIO(exported)) as source,
            zipfile.ZipFile(tmp_path / "m", "w") as target,
        ):
            for name in source.namelist():
                content = source.read(name)
                target.writestr(name, content[: len(content) // 2] if member in name else content)
        with pytest.raises(InvalidModel, match="cannot be loaded"):
            load_model(tmp_path / "m")


def test_truncated_state_dict(net: Net, here: Path) -> None:
    for zipped in (True, False):
        torch.save(net.state_dict(), here / "w", _use_new_zipfile_serialization=zipped)
        content = (here / "w").read_bytes()
        (here / "w").write_bytes(content[: len(content) // 2])
        with pytest.raises(InvalidModel):
            load_model("w", factory="made_here:Net", input_shapes=[SHAPE])


def test_something_else_than_weights(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "m")
    with pytest.raises(InvalidModel, match="holds a list, neither a module nor a state dict"):
        load_model(tmp_path / "m")


def test_input_shapes_are_parsed() -> None:
    assert parse_input_shapes(["1,3,8,8", "mask=1,5", "a=b=2x3"]) == InputShapes(
        ((1, 3, 8, 8),), {"mask": (1, 5), "a=b": (2, 3)}
    )
    assert not parse_input_shapes([])
    for text in ("", "1,", "=1,3", "1,-3", "x=", "1,a", "0,3"):
        with pytest.raises(UsageError, match="input_shapes"):
            parse_input_shapes([text])
    with pytest.raises(UsageError, match="two shapes"):
        parse_input_shapes(["x=1", "x=2"])
    with pytest.raises(UsageError, match="two shapes"):
        parse_input_shapes(["1", "x=2"]).by_name(["x"])


def test_real_models_compute_what_was_recorded(real_models: Path) -> None:
    for name in ("mtcnn_onet", "silero16k"):
        model = load_torch(real_models / f"{name}.pt2")
        assert not isinstance(model, Artifact)
        with np.load(real_models / f"{name}_eval.npz") as data:
            feeds = {spec.name: data[f"in{n}"][0] for n, spec in enumerate(model.inputs)}
            for number, output in enumerate(model.run(feeds)):
                np.testing.assert_allclose(output, data[f"out{number}"][0], atol=1e-5)
