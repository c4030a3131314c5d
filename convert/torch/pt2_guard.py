"""Refuse torch.export archives whose loading would run code from the file.

``torch.export.load`` trusts its file in more ways than by unpickling: it unpickles payloads
marked ``use_pickle``, custom objects, and sample inputs that a restricted load refuses; it loads
compiled libraries; it evaluates the text of symbolic sizes and of guards; it imports modules
named in tree specs; it resolves any attribute of ``torch``, ``math`` and ``operator`` as an
operator; and it writes the names of values into Python source. An archive passes here if none of
that can reach beyond PyTorch's own operators.
"""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from edgeconv.convert.torch.limits import is_bounded
from edgeconv.convert.torch.pt2_operators import is_known

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|")
# Module keys may hold almost anything, but not what ends a Python string literal.
_PATH = re.compile(r"[^\"'\\\x00-\x1f]*")
# Tables whose keys are names of values; everything else in a program has fixed keys.
_TABLES = frozenset(
    {
        "tensor_values",
        "sym_int_values",
        "sym_float_values",
        "sym_bool_values",
        "custom_obj_values",
        "as_string_to_argument",
    }
)
_TREES = frozenset(
    {
        "builtins.tuple",
        "builtins.list",
        "builtins.dict",
        "collections.OrderedDict",
        "collections.namedtuple",
    }
)
_TREE_KEY = re.compile(r"[\w.\- /]*")
_WORD = re.compile(r"[A-Za-z_]\w*")
_SYMBOL = re.compile(r"(?:s|u|z|zf|zuf|ps|i)\d+")
# The texts in `sympy.srepr`: Symbol('s77', positive=True), Float('1.5', precision=53).
_QUOTED = re.compile(r"\b(?:Symbol\('[A-Za-z_]\w*'|Float\('[-+.\dEe]+')")
_SYMBOLIC = re.compile(r"[\w\s+\-*/%(),.<>=!&|~]*")
_FUNCTIONS = frozenset(
    re.findall(
        r"\w+",
        """FloorDiv ModularIndexing Where PythonMod Mod CleanDiv CeilToInt FloorToInt CeilDiv LShift
        RShift PowByNatural FloatPow FloatTrueDiv IntTrueDiv IsNonOverlappingAndDenseIndicator
        TruncToFloat TruncToInt RoundToInt RoundDecimal ToFloat Identity Max Min Eq Ne Ge Gt Le Lt
        And Or Not Abs floor ceiling sqrt oo int_oo true false True False
        Symbol Integer Float Rational Half Add Mul Pow Equality Unequality LessThan GreaterThan
        StrictLessThan StrictGreaterThan BooleanTrue BooleanFalse Infinity NegativeInfinity
        positive negative nonnegative nonpositive integer real finite zero nonzero even odd
        precision""",
    )
)

_GUARD_NAMES = frozenset({"L", "math", "inf", "max", "min", "abs"})
_GUARD_ATTRIBUTES = frozenset(
    {"size", "stride", "storage_offset", "isnan", "inf", "floor", "ceil", "trunc"}
)
_GUARD_NODES = (
    ast.Expression,
    ast.BoolOp,
    ast.boolop,
    ast.BinOp,
    ast.operator,
    ast.UnaryOp,
    ast.unaryop,
    ast.Compare,
    ast.cmpop,
    ast.Call,
    ast.Subscript,
    ast.expr_context,
)

Reader = Callable[[str], bytes]


class Refused(Exception):
    """What in an archive would run code; `str` says it."""


def scan(names: list[str], read: Reader) -> None:
    """Check an archive as `torch.export.save` writes it.

    Args:
        names: Its members, without the root folder.
        read: Returns the content of a member.

    Raises:
        Refused: Loading it would run code from the file.
        ValueError: It is damaged.
    """
    if len(set(names)) != len(names):
        raise Refused("two members have one name")
    if compiled := [name for name in names if name.startswith("data/aotinductor/")]:
        raise Refused(f"it holds compiled code ({compiled[0]})")
    for name in names:
        if name.startswith("models/") and name.endswith(".json"):
            _scan_program(_json(read(name), name))
        elif name.endswith("_config.json") and name.startswith(("data/weights/", "data/const")):
            _scan_payloads(_json(read(name), name), name.rpartition("/")[0], read)
        elif name.endswith(".pt") and name.startswith("data/"):
            require_plain_tensors(read(name), name)


def scan_old(names: list[str], read: Reader) -> None:
    """Check an archive of torch 2.7 and before, like `scan`."""
    if len(set(names)) != len(names):
        raise Refused("two members have one name")
    for name in names:
        if name == "serialized_exported_program.json":
            _scan_program(_json(read(name), name))
        elif name.startswith("serialized_"):
            require_plain_tensors(read(name), name)


def require_plain_tensors(payload: bytes, name: str) -> None:
    """Check that a torch.save payload holds tensors and containers only.

    Raises:
        Refused: PyTorch's restricted unpickler does not take it.
    """
    import torch

    if not payload:
        return
    try:
        torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu")
    except Exception as error:
        # The restricted unpickler fails with whatever the damaged or hostile stream provokes.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise Refused(f"{name} is a pickle of more than tensors ({reason[:160]})") from error


def _json(content: bytes, name: str) -> Any:
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f"{name} is not valid JSON") from error


def _scan_payloads(config: Any, folder: str, read: Reader) -> None:
    for name, entry in config["config"].items():
        file = f"{folder}/{entry['path_name']}"
        if entry["path_name"].startswith(("custom_obj", "opaque_obj")):
            raise Refused(f"the constant {name} is a pickled object")
        if entry.get("use_pickle"):
            require_plain_tensors(read(file), file)


def _scan_program(program: Any) -> None:
    for guard in program.get("guards_code") or ():
        _scan_guard(guard)
    for key, limits in program.get("range_constraints", {}).items():
        _scan_symbolic(key)
        _require(all(_is_number(limit) for limit in limits.values()), "range", str(limits))
    _walk(program["graph_module"], "")


def _walk(node: Any, key: str) -> None:
    """Check everything under one key of the program."""
    if key in _CHECKS:
        for value in node if isinstance(node, list) else [node]:
            _require(value is None or isinstance(value, str), key, str(value))
            _CHECKS[key](value or "")
    elif key == "hint":
        _require(node is None or all(_is_number(hint) for hint in node.values()), key, str(node))
    elif isinstance(node, list):
        for item in node:
            _walk(item, key)
    elif isinstance(node, dict):
        _walk_mapping(node, is_table=key in _TABLES)


def _walk_mapping(node: dict[str, Any], *, is_table: bool) -> None:
    """Check a record with fixed keys, or a table whose keys are names that the file chose."""
    for name, item in node.items():
        if is_table:
            _scan_name(name)
            _walk(item, "")
        elif name != "metadata":
            # Metadata is text for people; PyTorch looks names up in it, and calls nothing.
            _walk(item, name)


def _scan_guard(guard: Any) -> None:
    """Check a condition on the inputs, such as ``L['x'].size()[0] <= 2*L['y'].size()[1]``."""
    text = guard if isinstance(guard, str) else ""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError):
        nodes = []
    plain = bool(nodes) and "\n" not in text and "#" not in text
    _require(plain and all(map(_is_plain_node, nodes)), "condition on the inputs", str(guard))
    if not is_bounded(text):
        raise ValueError(f"the condition {text[:80]!r} grows beyond measure")


def _is_plain_node(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _GUARD_NAMES or node.id in _FUNCTIONS
    if isinstance(node, ast.Attribute):
        return node.attr in _GUARD_ATTRIBUTES
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str) or _TREE_KEY.fullmatch(node.value) is not None
    return isinstance(node, _GUARD_NODES)


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, (int, float))


def _scan_name(name: str) -> None:
    _require(_IDENTIFIER.fullmatch(name) is not None, "name of a value", name)


def _scan_path(path: str) -> None:
    _require(_PATH.fullmatch(path) is not None, "name of a parameter or module", path)


def _refuse_object(name: str) -> None:
    raise Refused(f"it holds a custom object ({name[:80]!r})")


def _scan_target(target: str) -> None:
    _require(is_known(target), "operator", target)


def _scan_symbolic(text: str) -> None:
    bare = _QUOTED.sub("Symbol(", text)
    words = _WORD.findall(bare)
    plain = _SYMBOLIC.fullmatch(bare) is not None and re.search(r"\.\s*[A-Za-z_]", bare) is None
    known = all(_SYMBOL.fullmatch(word) or word in _FUNCTIONS for word in words)
    _require(plain and known, "symbolic size", text)
    if not is_bounded(_QUOTED.sub("Symbol(1", text)):
        raise ValueError(f"the symbolic size {text[:80]!r} grows beyond measure")


def _scan_tree(text: str) -> None:
    if not text:
        return
    for node in _tree_nodes(_json(text.encode(), "a tree spec")[1]):
        kind, context = node["type"], node["context"]
        _require(kind is None or kind in _TREES, "container", str(kind))
        keys = _json(context.encode(), "a tree spec") if isinstance(context, str) else context
        for key in keys if isinstance(keys, list) else [keys]:
            harmless = key is None or isinstance(key, int)
            plain = isinstance(key, str) and _TREE_KEY.fullmatch(key) is not None
            _require(harmless or plain, "key of a container", repr(key))


def _tree_nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in node["children_spec"]:
        yield from _tree_nodes(child)


def _require(harmless: bool, what: str, value: str) -> None:
    if not harmless:
        raise Refused(f"{value[:80]!r} is no {what} that PyTorch itself writes")


_CHECKS: dict[str, Callable[[str], None]] = {
    "name": _scan_name,
    "as_name": _scan_name,
    "user_input_name": _scan_name,
    "forward_arg_names": _scan_name,
    "field_names": _scan_name,
    "parameter_name": _scan_path,
    "buffer_name": _scan_path,
    "tensor_constant_name": _scan_path,
    "fqn": _scan_path,
    "target": _scan_target,
    "as_operator": _scan_target,
    "expr_str": _scan_symbolic,
    "in_spec": _scan_tree,
    "out_spec": _scan_tree,
    "class_fqn": _refuse_object,
    "custom_obj_name": _refuse_object,
}
