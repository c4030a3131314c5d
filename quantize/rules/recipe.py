"""Read recipes: files that say which operators are quantized otherwise than the rest.

Our own are TOML or JSON with a list ``rule``; of several that match an operator, the last one
counts::

    [[rule]]
    op = "SOFTMAX"          # a builtin operator; any if absent
    name = "encoder.*"      # of a module, an ONNX node or a tensor, with * and ?; any if absent
    precision = "int16"     # int8, int16, float, fp16, dynamic or weight-only

The recipes of ai-edge-quantizer, JSON lists, are read for the precision that each entry asks for.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from fnmatch import translate
from pathlib import Path
from typing import Any

from edgeconv.core.errors import InvalidData
from edgeconv.core.options import ConvertOptions
from edgeconv.core.wording import named
from edgeconv.quantize.rules.precision import Precision, Rule, keep

_KEYS = {"op", "name", "precision"}
_EDGES = ("INPUT", "OUTPUT")
_OTHER_NAMES = {"CONV_2D_TRANSPOSE": "TRANSPOSE_CONV", "*": ""}
"""Operators that ai-edge-quantizer calls otherwise than the schema."""

_STATIC: dict[int, Precision] = {8: "int8", 16: "int16"}


def rules_of(options: ConvertOptions) -> list[Rule]:
    """Return the rules that a conversion's options ask for; later ones win.

    Raises:
        InvalidData: The recipe cannot be read.
        UsageError: A rule names an operator that does not exist.
    """
    rules = [] if options.recipe is None else read(Path(options.recipe))
    rules += [keep(text, "int16", "--keep-int16") for text in options.keep_int16]
    return rules + [keep(text, "float", "--keep-float") for text in options.keep_float]


def read(path: Path) -> list[Rule]:
    """Read a recipe.

    Raises:
        InvalidData: The file is missing, is no recipe, or asks for what there is not.
        UsageError: A rule names an operator that does not exist.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if text.lstrip()[:1] in ("[", "{") else None
    except RecursionError as error:
        raise _wrong(path, "its values are nested too deeply") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidData("the recipe cannot be read", where=str(path), why=str(error)) from error
    except json.JSONDecodeError:
        content = None
    if content is None:
        content = _toml(path, text)
    if isinstance(content, list):
        return _foreign(path, content)
    entries = content.get("rule") if isinstance(content, dict) else None
    if not isinstance(entries, list) or set(content) != {"rule"}:
        raise _wrong(path, "it has no list of rules alone")
    return [_own(f"{path}, rule {count}", entry) for count, entry in enumerate(entries, 1)]


def _toml(path: Path, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise _wrong(path, "its values are nested too deeply") from error
    except tomllib.TOMLDecodeError as error:
        raise _wrong(path, f"it is neither JSON nor TOML: {error}") from error


def _own(where: str, entry: Any) -> Rule:
    if not isinstance(entry, Mapping) or set(entry) - _KEYS or "precision" not in entry:
        found = ", ".join(map(str, entry)) if isinstance(entry, Mapping) else repr(entry)
        raise _wrong(where, f"a rule has a precision, and an op or a name; found {found}")
    if not all(isinstance(value, str) for value in entry.values()):
        raise _wrong(where, "op, name and precision are texts")
    pattern = translate(entry["name"]) if "name" in entry else ""
    op = entry.get("op", "").upper()
    return Rule(entry["precision"], op=op, pattern=pattern, source=where)


def _foreign(path: Path, entries: list[Any]) -> list[Rule]:
    """Read ai-edge-quantizer's form, in which what no entry names stays float."""
    rules = [Rule("float", required=False, source=str(path))]
    for count, entry in enumerate(entries, 1):
        where = f"{path}, entry {count}"
        try:
            operation, regex = str(entry["operation"]), str(entry["regex"])
            precision = _precision(where, entry)
        except (KeyError, TypeError, AttributeError) as error:
            raise _wrong(where, f"{type(error).__name__}: {error}") from error
        if operation in _EDGES:
            if precision != "float":
                raise _wrong(
                    where, f"{operation} is not an operator here", f"use {named('io_dtype')}"
                )
            continue
        op = _OTHER_NAMES.get(operation, operation)
        # A list of operators for any model names more than one has.
        required = regex not in ("", ".*")
        rules.append(Rule(precision, op=op, pattern=regex, required=required, source=where))
    return rules


def _precision(where: str, entry: Mapping[str, Any]) -> Precision:
    if entry["algorithm_key"] == "no_quantize":
        return "float"
    config = entry["op_config"]
    weight = config.get("weight_tensor_config") or {}
    activation = config.get("activation_tensor_config")
    if weight.get("dtype") == "FLOAT":
        return "fp16"
    if weight and weight["num_bits"] != 8:
        raise _wrong(where, f"it asks for weights of {weight['num_bits']} bits", "use 8")
    if activation is not None:
        bits = activation["num_bits"]
        if bits not in _STATIC:
            raise _wrong(where, f"it asks for activations of {bits} bits", "use 8 or 16")
        return _STATIC[bits]
    explicit = config.get("explicit_dequantize") or config.get("compute_precision") == "FLOAT"
    return "weight-only" if explicit else "dynamic"


def _wrong(where: Path | str, why: str, hint: str = "") -> InvalidData:
    return InvalidData("the recipe is not understood", where=str(where), why=why, hint=hint)
