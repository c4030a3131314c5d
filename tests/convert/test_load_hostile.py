"""Files that would run code when they are loaded: refused, and nothing of them has run."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeconv.convert.torch.load import load_model
from edgeconv.convert.torch.pickle_guard import imported_names
from edgeconv.core.errors import InvalidModel, UsageError

Members = dict[str, bytes]


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


class Scale(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


@pytest.fixture(scope="module")
def archive() -> Members:
    """The members of a harmless torch.export archive with an open dimension."""
    batch = torch.export.Dim("batch", min=2, max=8)
    program = torch.export.export(Scale(), (torch.ones(3, 4),), dynamic_shapes=({0: batch},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    with zipfile.ZipFile(buffer) as source:
        return {name: source.read(name) for name in source.namelist()}


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Exists once hostile code has run."""
    return tmp_path / "it-ran"


def write(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w") as target:
        for name, content in members.items():
            target.writestr(name, content)
    return path


def edit(members: Members, suffix: str, change: Callable[[Any], None]) -> Members:
    """Return the members with one JSON member changed."""
    name = next(name for name in members if name.endswith(suffix))
    content = json.loads(members[name])
    change(content)
    return {**members, name: json.dumps(content).encode()}


def replace(members: Members, suffix: str, content: bytes) -> Members:
    name = next((name for name in members if name.endswith(suffix)), "")
    root = next(iter(members)).partition("/")[0]
    return {**members, name or f"{root}/{suffix}": content}


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def refuse(path: Path, marker: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_model(path, input_shapes=[(3, 4)])
    assert not marker.exists(), "hostile code has run"
    return str(caught.value)


def test_the_harmless_archive_loads(archive: Members, tmp_path: Path) -> None:
    model = load_model(write(tmp_path / "model", archive), input_shapes=[(3, 4)])
    assert model.inputs[0].shape == (3, 4)


def test_pickled_sample_inputs(archive: Members, tmp_path: Path, marker: Path) -> None:
    members = replace(archive, "sample_inputs/model.pt", saved(((Payload(marker),), {})))
    path = write(tmp_path / "m.pt2", members)
    assert "trust_pickle=True" in refuse(path, marker)
    load_model(path, trust_pickle=True)
    assert marker.exists(), "the payload must be a live one, or this test proves nothing"


def test_pickled_weight(archive: Members, tmp_path: Path, marker: Path) -> None:
    def change(config: Any) -> None:
        config["config"]["factor"]["use_pickle"] = True

    members = edit(archive, "model_weights_config.json", change)
    members = replace(members, "weights/weight_0", saved(Payload(marker)))
    assert "weight_0" in refuse(write(tmp_path / "m.pt2", members), marker)


@pytest.mark.parametrize("prefix", ["opaque_obj", "custom_obj"])
def test_pickled_constant(archive: Members, tmp_path: Path, marker: Path, prefix: str) -> None:
    def change(config: Any) -> None:
        config["config"]["thing"] = {
            "path_name": f"{prefix}_0",
            "is_param": False,
            "use_pickle": True,
            "tensor_meta": None,
        }

    members = edit(archive, "model_constants_config.json", change)
    content = pickle.dumps(Payload(marker))
    members = replace(members, f"data/constants/{prefix}_0", content)
    assert "pickled object" in refuse(write(tmp_path / "m.pt2", members), marker)


def test_compiled_code(archive: Members, tmp_path: Path, marker: Path) -> None:
    members = replace(archive, "data/aotinductor/model/x.so", b"\x7fELF")
    assert "compiled code" in refuse(write(tmp_path / "m.pt2", members), marker)


def test_two_members_of_one_name(archive: Members, tmp_path: Path, marker: Path) -> None:
    path = write(tmp_path / "m.pt2", archive)
    with zipfile.ZipFile(path, "a") as target, pytest.warns(UserWarning, match="Duplicate name"):
        name = next(name for name in archive if name.endswith("sample_inputs/model.pt"))
        target.writestr(name, saved(((Payload(marker),), {})))
    assert "two members" in refuse(path, marker)


def code(marker: Path) -> str:
    return f"__import__('os').mkdir({str(marker)!r})"


def sizes(program: Any) -> Any:
    return program["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]


def in_size(program: Any, marker: Path) -> None:
    sizes(program)[0] = {"as_expr": {"expr_str": code(marker), "hint": None}}


def in_size_without_quotes(program: Any, marker: Path) -> None:
    text = f"exec(bytes([{','.join(str(byte) for byte in code(marker).encode())}]))"
    sizes(program)[0] = {"as_expr": {"expr_str": text, "hint": None}}


def in_nested_size(program: Any, marker: Path) -> None:
    sizes(program)[0] = {"as_expr": {"expr_str": {"a": code(marker)}, "hint": None}}


def in_size_of_value_called_metadata(program: Any, marker: Path) -> None:
    in_size(program, marker)
    values = program["graph_module"]["graph"]["tensor_values"]
    values["metadata"] = values.pop("x")


def in_hint(program: Any, marker: Path) -> None:
    sizes(program)[0]["as_expr"]["hint"] = {"as_int": code(marker)}


def in_range(program: Any, marker: Path) -> None:
    for limits in program["range_constraints"].values():
        limits["min_val"] = code(marker)


def in_guard(program: Any, marker: Path) -> None:
    program["guards_code"] = [code(marker)]


def in_guard_on_inputs(program: Any, marker: Path) -> None:
    program["guards_code"] = [f"L['x'].size()[0] > 1, {code(marker)}"]


def in_guard_text(program: Any, marker: Path) -> None:
    program["guards_code"] = [f"L['x'] == \"', {code(marker)}\""]


def in_value_name(program: Any, marker: Path) -> None:
    name = f"a={code(marker)}"
    program["graph_module"]["graph"]["nodes"][0]["name"] = name


def in_argument_name(program: Any, marker: Path) -> None:
    signature = program["graph_module"]["module_call_graph"][0]["signature"]
    signature["forward_arg_names"] = [f"x={code(marker)}"]


def in_parameter_name(program: Any, marker: Path) -> None:
    for spec in program["graph_module"]["signature"]["input_specs"]:
        if "parameter" in spec:
            spec["parameter"]["parameter_name"] = f'factor"), {code(marker)}, ("'


def in_operator(program: Any, marker: Path) -> None:
    node = program["graph_module"]["graph"]["nodes"][0]
    node["target"] = "torch.os.mkdir"
    node["inputs"] = [{"name": "", "arg": {"as_string": str(marker)}, "kind": 1}]


def in_library(program: Any, marker: Path) -> None:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.load_library"


def in_dunder(program: Any, marker: Path) -> None:
    target = "torch.ops.aten.__init__"
    program["graph_module"]["graph"]["nodes"][0]["target"] = target


def in_file_operator(program: Any, marker: Path) -> None:
    target = "torch.ops.aten.from_file.default"
    program["graph_module"]["graph"]["nodes"][0]["target"] = target


def in_caller(program: Any, marker: Path) -> None:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "_operator.methodcaller"


def tree(program: Any, node: dict[str, Any]) -> None:
    signature = program["graph_module"]["module_call_graph"][0]["signature"]
    signature["out_spec"] = json.dumps([1, node])


def in_tree_type(program: Any, marker: Path) -> None:
    context = {
        "default_factory_module": "antigravity",
        "default_factory_name": "fly",
        "dict_context": [],
    }
    tree(
        program,
        {"type": "collections.defaultdict", "context": json.dumps(context), "children_spec": []},
    )


def in_tree_key(program: Any, marker: Path) -> None:
    key = [{"__enum__": True, "fqn": "antigravity:fly", "name": "x"}]
    tree(program, {"type": "builtins.dict", "context": json.dumps(key), "children_spec": []})


@pytest.mark.parametrize(
    "poison",
    [
        in_size,
        in_size_without_quotes,
        in_nested_size,
        in_size_of_value_called_metadata,
        in_hint,
        in_range,
        in_guard,
        in_guard_on_inputs,
        in_guard_text,
        in_value_name,
        in_argument_name,
        in_parameter_name,
        in_operator,
        in_library,
        in_dunder,
        in_file_operator,
        in_caller,
        in_tree_type,
        in_tree_key,
    ],
)
def test_code_in_the_program(
    archive: Members, tmp_path: Path, marker: Path, poison: Callable[[Any, Path], None]
) -> None:
    members = edit(archive, "models/model.json", lambda program: poison(program, marker))
    assert "would run code" in refuse(write(tmp_path / "m.pt2", members), marker)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_and_names_what_it_imports(
    tmp_path: Path, marker: Path, zipped: bool
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"w": Payload(marker)}, path, _use_new_zipfile_serialization=zipped)
    message = refuse(path, marker)
    assert "runs code from the file" in message
    assert "mkdir" in message
    assert "trust_pickle=True" in message


def test_a_bare_pickle_is_refused(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Payload(marker)))
    refuse(path, marker)


def test_a_pickled_module_needs_trust(tmp_path: Path) -> None:
    path = tmp_path / "module.pt"
    torch.save(torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU()), path)
    with pytest.raises(UsageError, match=r"torch\.nn\.modules\.container\.Sequential"):
        load_model(path, input_shapes=[(1, 4)])
    model = load_model(path, input_shapes=[(1, 4)], trust_pickle=True)
    assert model.input_names == ("input",)  # type: ignore[union-attr]  # a TorchModel


def test_imports_are_listed_without_unpickling(marker: Path) -> None:
    for protocol in range(2, 6):
        names = imported_names(io.BytesIO(pickle.dumps(Payload(marker), protocol)))
        assert [name.rpartition(".")[2] for name in names] == ["mkdir"]
    assert not marker.exists()


def test_torchscript_that_opens_files(tmp_path: Path) -> None:
    class Reads(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.from_file("/etc/hostname", size=1)

    torch.jit.script(Reads()).save(str(tmp_path / "m.pt"))
    with pytest.raises(UsageError, match="does more than to compute tensors"):
        load_model(tmp_path / "m.pt", input_shapes=[(1,)])


def test_a_zip_bomb_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        target.writestr("m/data.pkl", b"x" * 100)
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = (0xFFFFFFF0).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(InvalidModel, match="declares more than it can hold"):
        load_model(path)
