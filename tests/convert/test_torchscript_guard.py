"""TorchScript archives are judged by what their code compiles to, before any of it has run."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgeconv.convert.torch.load import load_model
from edgeconv.convert.torch.model import TorchModel
from edgeconv.convert.torch.torchscript_operators import REFUSED, is_known
from edgeconv.core.errors import InvalidModel, UsageError


class Plain(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def archive(path: Path, body: str = "", *, rest: str = "", **members: str) -> Path:
    """Write an archive of a module whose forward starts with `body`, and classes behind it."""
    plain = path.with_name("plain.pt")
    torch.jit.script(Plain()).save(str(plain))
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("test_torchscript_guard.py"):
                text = content.decode()
                start = text.index("    return torch.add")
                content = (text[:start] + lines + text[start:] + rest).encode()
            if not name.endswith(".debug_pkl"):
                target.writestr(name, content)
        for name, text in members.items():
            target.writestr(f"plain/{name}", text)
    return path


def refuse(path: Path) -> str:
    with pytest.raises(UsageError, match="does more than to compute tensors") as caught:
        load_model(path, input_shapes=[(1, 3)])
    return str(caught.value)


CALLS = {
    "direct": 'torch.save(x, "{}")',
    "by another name": 'f = torch.save\nf(x, "{}")',
    "with a space": 'torch .save(x, "{}")',
    "over a line": 'torch.save(\n  x,\n  "{}")',
    "as an operator": 'ops.aten.save(x, "{}")',
    "a file as memory": 'y = torch.from_file("{}", True, 8, dtype=0)\n'
    "x = torch.add(x, torch.sum(torch.fill_(y, 65)))",
    "in a branch": 'if bool(torch.gt(torch.sum(x), 0)):\n  torch.save(x, "{}")\nelse:\n  pass',
    "in a loop": 'for _0 in range(2):\n  torch.save(x, "{}")',
    "in a fork": 'def inner():\n  torch.save(x, "{}")\n  return x\nx = torch.wait(fork(inner))',
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_file_is_written_in_many_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "m.pt", call.format("it-ran"))
    module = torch.jit.load(str(path))
    module(torch.ones(1, 3))
    written = tmp_path / "it-ran"
    assert written.exists(), "the archive must be a live one, or this test proves nothing"
    written.unlink()
    message = refuse(path)
    assert "aten::save (writes a file)" in message or "aten::from_file" in message
    assert "forward" in message
    assert not written.exists()


class Restored(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = torch.ones(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.w

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return (self.w, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        torch.save(state[0], "it-ran")
        self.w = state[0]
        self.training = state[1]


def test_what_loading_alone_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "m.pt"
    torch.jit.script(torch.nn.Sequential(Restored())).save(str(path))
    torch.jit.load(str(path))
    (tmp_path / "it-ran").unlink()
    assert "__setstate__" in refuse(path)
    assert not (tmp_path / "it-ran").exists()


def test_a_restored_class_that_is_found_in_another_way(tmp_path: Path) -> None:
    rest = "# __setstate__ in a comment is counted too\n"
    assert "another way than by loading" in refuse(archive(tmp_path / "m.pt", rest=rest))


def _hook(self: Plain, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
    torch.save(output, "it-ran")
    return output


def test_hooks_and_methods_that_nothing_calls(tmp_path: Path) -> None:
    hooked = Plain()
    hooked.register_forward_hook(_hook)
    torch.jit.script(torch.nn.Sequential(hooked)).save(str(tmp_path / "hook.pt"))
    assert "_hook" in refuse(tmp_path / "hook.pt")
    unused = "  def other(self) -> Tensor:\n    torch.manual_seed(1)\n    return torch.ones([1])\n"
    path = archive(tmp_path / "m.pt", rest=unused)
    assert "aten::manual_seed (seeds the process)" in refuse(path)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ('print("x")', "prim::Print"),
        ("y = ops.profiler._record_function_enter_new('x')", "torch.classes.profiler"),
        ("y = torch.classes.dist_c10d.Store", ""),
    ],
)
def test_other_operators(tmp_path: Path, body: str, named: str) -> None:
    path = archive(tmp_path / "m.pt", body)
    if named:
        assert named in refuse(path)
    else:
        with pytest.raises(Exception, match=r"cannot be loaded|does more"):
            load_model(path, input_shapes=[(1, 3)])


def test_members_that_the_compiler_and_the_loader_could_see_differently(tmp_path: Path) -> None:
    assert "lies outside" in refuse(archive(tmp_path / "a.pt", **{"code/x.py": "\n"}))
    assert "of PyTorch 1.3" in refuse(archive(tmp_path / "b.pt", **{"model.json": "{}"}))
    doubled = {"CONSTANTS.PKL": "x"}
    assert "two members" in refuse(archive(tmp_path / "c.pt", **doubled))


def test_constants_are_tensors(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.pt")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "n.pt", "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("constants.pkl"):
                content = b"\x80\x02c__torch__.x\nX\n)\x81}b\x85."
            target.writestr(name, content)
    assert "its constants hold a __torch__.x.X" in refuse(tmp_path / "n.pt")


def test_every_operator_of_the_installed_torch_is_decided() -> None:
    names = {schema.name for schema in torch._C._jit_get_all_schemas()}
    undecided = {
        name
        for name in names
        if name.startswith("aten::") and not is_known(name) and name not in REFUSED
    }
    # Other tests may have registered some for themselves.
    undecided = {name for name in undecided if not re.search("test|edgeconv", name)}
    assert not undecided, "add these to convert/torch/torchscript_operators.py"
    assert not [name for name in REFUSED if is_known(name)]
    assert set(REFUSED) <= names


def test_no_known_operator_takes_the_name_of_a_file() -> None:
    suspects = [
        str(schema)
        for schema in torch._C._jit_get_all_schemas()
        if is_known(schema.name)
        for argument in schema.arguments
        if argument.name in ("filename", "file", "path", "f") and str(argument.type) == "str"
    ]
    assert not suspects


class Busy(torch.nn.Module):
    """What the language has, in one forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)])
        self.lstm = torch.nn.LSTM(3, 3)
        self.names = {"a": 1, "b": 2}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept: list[torch.Tensor] = []
        for layer in self.layers:
            x = layer(x)
            kept.append(x)
        total = 0
        for key, value in self.names.items():
            total += value if key.startswith("a") else len(key)
        if x.dim() > 5:
            raise ValueError(f"too many axes: {x.dim()}")
        with torch.no_grad():
            y = torch.stack(kept).sum(0) * float(total)
        z, _ = self.lstm(y.unsqueeze(0))
        return torch.nn.functional.interpolate(z.unsqueeze(0), scale_factor=2.0)[0, 0]


def scripted(module: torch.nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.script(module)


def traced(module: torch.nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.trace(module, torch.ones(1, 3))  # type: ignore[no-any-return]


def frozen(module: torch.nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.freeze(scripted(module.eval()))  # type: ignore[no-any-return]


@pytest.mark.parametrize("make", [scripted, traced, frozen])
def test_honest_archives_load(
    tmp_path: Path, make: Callable[[torch.nn.Module], torch.jit.ScriptModule]
) -> None:
    module = Busy().eval()
    make(module).save(str(tmp_path / "m.pt"))
    model = load_model(tmp_path / "m.pt", input_shapes=[(1, 3)])
    assert isinstance(model, TorchModel)
    x = torch.rand(1, 3)
    torch.testing.assert_close(torch.from_numpy(model.run({"x": x.numpy()})[0]), module(x))


class Endless(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        while True:
            y = y + 1
        return y


class EndlessInside(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            if bool(x.sum() > 1):
                while True:
                    x = x + 1
        return x


class Leaves(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while True:
            x = x + 1
            if bool(x.sum() > 10):
                break
        while True:
            x = x - 1
            if bool(x.sum() < 0):
                return x
        return x


@pytest.mark.parametrize("module", [Endless(), EndlessInside()])
def test_a_loop_that_never_ends_is_seen_without_running_it(
    tmp_path: Path, module: torch.nn.Module
) -> None:
    path = tmp_path / "m.pt"
    torch.jit.script(module).save(str(path))
    with pytest.raises(InvalidModel, match="never ends") as caught:
        load_model(path, input_shapes=[(1, 3)])
    assert "forward" in caught.value.where


def test_a_loop_that_is_left_is_none_of_those(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.jit.script(Leaves()).save(str(path))
    assert isinstance(load_model(path, input_shapes=[(1, 3)]), TorchModel)


def _rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    """Write an archive again, its members changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content))


@pytest.mark.parametrize(
    ("member", "old", "new"),
    [
        ("/data/1", None, b""),
        ("/data/1", None, b"\0" * 12),
        ("/data.pkl", b"(K\x04K\x03t(K\x03K\x01t", b"(K\x05K\x03t(K\x03K\x01t"),  # another row
        ("/data.pkl", b"tQq\nK\x00(", b"tQq\nK\x01("),  # another offset
        ("/data.pkl", b"(K\x04K\x03t(K\x03K\x01t", b"(K\x04K\x03t(K\x04K\x01t"),  # wider rows
        ("/data.pkl", b"(K\x04K\x03t(K\x03K\x01t", b"(K\x04K\x03t(K\x03t"),  # a stride too few
    ],
)
def test_tensors_that_show_more_than_there_is_are_refused(
    tmp_path: Path, member: str, old: bytes | None, new: bytes
) -> None:
    """PyTorch would read what lies behind the storage, or end the process."""
    path = tmp_path / "m.pt"
    scripted(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()).eval()).save(str(path))
    load_model(path, input_shapes=[(1, 3)])
    changed = []

    def change(name: str, content: bytes) -> bytes:
        if not name.endswith(member):
            return content
        result = new if old is None else content.replace(old, new)
        changed.append(result != content)
        return result

    _rewritten(path, change)
    assert changed == [True]
    with pytest.raises(InvalidModel, match="cannot be loaded") as caught:
        load_model(path, input_shapes=[(1, 3)])
    assert "storage" in caught.value.why or "argument" in caught.value.why
