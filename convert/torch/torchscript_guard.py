"""Judge a TorchScript archive by its compiled code, before anything of it has run.

``torch.jit.load`` acts while it loads: an object whose class has a ``__setstate__`` has it called.
So the code is first compiled by itself: an archive with the same code and the same constants, and
in place of the objects one of a class of our own, whose method names every class of the code as the
type of an argument. Compiling runs nothing but arithmetic on constants. What the compiler makes of
all functions, methods, hooks and the blocks and graphs inside them is held against
`edgeconv.convert.torch.torchscript_operators`; no text is searched for calls, because there are
endless ways to write one.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeconv.convert.torch.pickle_guard import imported_names
from edgeconv.convert.torch.torchscript_operators import REFUSED, is_known, is_known_class
from edgeconv.convert.torch.torchscript_storages import require_whole
from edgeconv.core.scratch import scratch_directory

if TYPE_CHECKING:
    import torch

_CLASS = re.compile(rb"^class[ \t]+(\w+)", re.MULTILINE)
_RESTORES = re.compile(rb"\b__setstate__\b")
_NATIVE_CLASS = re.compile(r"\btorch\.classes\.(\w+)")
_SETTINGS = ("version", ".data/version", "byteorder", ".format_version", ".storage_alignment")
_OWN = "__edgeconv__"
# Tensors, and the containers and sizes of them; whatever else is a class of the archive.
_PLAIN = re.compile(
    r"torch\._utils\.\w+|torch\.jit\._pickle\.\w+|torch\.\w+Storage|torch\.device"
    r"|collections\.OrderedDict|builtins\.complex|torch\._tensor\._rebuild_from_type_v2"
)
_SHOWN = 5
_ENDLESS = (1 << 63) - 1
"""Turns of a loop that only its condition ends."""


class Refused(Exception):
    """What in an archive would act; `str` says it, and ``where`` names the function."""

    def __init__(self, why: str, where: str = "") -> None:
        super().__init__(why)
        self.where = where


class Endless(Exception):
    """A loop in an archive never ends; ``where`` names the function."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where


def judge(path: Path) -> None:
    """Compile the code of an archive, and look through all of it.

    Args:
        path: The archive.

    Raises:
        Refused: Something in it does more than to compute.
        Endless: A loop in it never ends.
        Exception: It is damaged; whatever PyTorch's compiler raises.
    """
    import torch

    reader = torch._C.PyTorchFileReader(str(path))
    names = _members(reader)
    code = {name: reader.get_record(name) for name in names if _is_code(name)}
    _judge_pickles(reader, names)
    require_whole(reader, names)
    with scratch_directory() as folder:
        bare = Path(folder) / "code.pt"
        _write_bare(bare, reader, names, code)
        unit, _ = compiled(bare)
    functions = list(unit.get_functions())
    judge_functions(functions)
    restored = sum(function.qualified_name.endswith(".__setstate__") for function in functions)
    if restored != sum(len(_RESTORES.findall(text)) for text in code.values()):
        raise Refused("it has a __setstate__ that is called in another way than by loading")


def compiled(path: Path) -> tuple[Any, Any]:
    """Load an archive, as `torch.jit.load` does.

    Returns:
        The compilation unit, with everything that was compiled, and the C++ module.
    """
    import torch

    unit = torch._C.CompilationUnit()
    # mypy: torch's stubs leave the arguments out that `torch.jit.load` gives.
    load: Any = torch._C.import_ir_module
    shapes_too = False
    return unit, load(unit, str(path), torch.device("cpu"), {}, shapes_too)


def judge_functions(functions: Iterable[Any]) -> None:
    """Look through compiled functions, and the blocks and graphs inside them.

    Raises:
        Refused: One does more than to compute.
        Endless: One never ends, if it gets to its loop.
    """
    found: dict[str, str] = {}
    for function in functions:
        for node in _nodes(function.graph):
            if not is_known(node.kind()):
                found.setdefault(node.kind(), function.qualified_name)
            if _never_ends(node):
                raise Endless(function.qualified_name)
            for value in node.outputs():
                _judge_type(value.type(), function.qualified_name)
        for value in function.graph.inputs():
            _judge_type(value.type(), function.qualified_name)
    if found:
        listed = [f"{kind} ({REFUSED[kind]})" if kind in REFUSED else kind for kind in found]
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        raise Refused(f"it calls {', '.join(listed[:_SHOWN])}{more}", next(iter(found.values())))


def _nodes(block: Any) -> Iterator[Any]:
    """Yield every node of a graph or block, those inside others too."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)
        for name in node.attributeNames():
            if node.kindOf(name) == "g":
                yield from _nodes(node.g(name))
            elif node.kindOf(name) == "gs":
                for graph in node.gs(name):
                    yield from _nodes(graph)


def _never_ends(node: Any) -> bool:
    """Tell whether a node is a loop without a last turn whose condition always holds.

    The compiler makes conditions of ``break`` and ``return``.
    """
    if node.kind() != "prim::Loop":
        return False
    turns, first, *_ = node.inputs()
    following, *_ = next(node.blocks()).outputs()
    holds = first.toIValue() is True and following.toIValue() is True
    return bool(holds and turns.toIValue() == _ENDLESS)


def _judge_type(kind: torch._C.JitType, where: str) -> None:
    foreign = [name for name in _NATIVE_CLASS.findall(str(kind)) if not is_known_class(name)]
    if foreign:
        raise Refused(f"it uses torch.classes.{foreign[0]}", where)


def _members(reader: Any) -> list[str]:
    names: list[str] = reader.get_all_records()
    if len({name.casefold() for name in names}) != len(names):
        raise Refused("two members have one name")
    if "model.json" in names:
        raise Refused("it has the format of PyTorch 1.3 and before, whose code cannot be judged")
    stray = [
        name
        for name in names
        if name.startswith("code/") and not name.startswith(("code/__torch__/", "code/__torch__."))
    ]
    if stray:
        raise Refused(f"its code lies outside of __torch__ ({stray[0]})")
    return names


def _is_code(name: str) -> bool:
    return name.startswith("code/") and name.endswith(".py")


def _judge_pickles(reader: Any, names: Iterable[str]) -> None:
    """Require plain constants, and objects of no foreign C++ class."""
    for name in names:
        if not name.endswith(".pkl"):
            continue
        content = reader.get_record(name)
        classes = _NATIVE_CLASS.findall(content.decode("latin-1"))
        if foreign := [item for item in classes if not is_known_class(item)]:
            raise Refused(f"it holds an object of torch.classes.{foreign[0]}", name)
        if name == "constants.pkl":
            others = [item for item in imported_names(io.BytesIO(content)) if not _is_plain(item)]
            if others:
                raise Refused(f"its constants hold a {others[0]}", name)


def _is_plain(name: str) -> bool:
    match = _NATIVE_CLASS.search(name)
    return _PLAIN.fullmatch(name) is not None or (
        match is not None and name.startswith("__torch__.torch.classes.")
    )


def _write_bare(path: Path, reader: Any, names: Iterable[str], code: dict[str, bytes]) -> None:
    """Write the archive without its objects."""
    classes = [
        f"{name.removeprefix('code/').removesuffix('.py').replace('/', '.')}.{found.decode()}"
        for name, text in code.items()
        for found in _CLASS.findall(text)
    ]
    arguments = "".join(f",\n    a{number}: {name}" for number, name in enumerate(classes))
    root = (
        "class Root(Module):\n  __parameters__ = []\n  __buffers__ = []\n"
        f"  def forward(self: {_OWN}.Root{arguments}) -> int:\n    return 1\n"
    )
    # Protocol 2: an object of the class, with an empty state.
    instance = b"\x80\x02c" + f"{_OWN}\nRoot\n".encode() + b")\x81}b."
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, text in code.items():
            archive.writestr(f"archive/{name}", text)
        for name in names:
            if name in _SETTINGS or name == "constants.pkl" or name.startswith("constants/"):
                archive.writestr(f"archive/{name}", reader.get_record(name))
        archive.writestr(f"archive/code/{_OWN}.py", root)
        archive.writestr("archive/data.pkl", instance)
