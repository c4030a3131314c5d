"""Import the functions that users name, ``package.module:function`` or ``file.py:function``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeconv.core.errors import UsageError


def is_reference(text: str) -> bool:
    """Tell whether a text has the form ``package.module:name`` or ``path/to/file.py:name``."""
    module, colon, name = text.rpartition(":")
    parts = [*([] if module.endswith(".py") else module.split(".")), *name.split(".")]
    return bool(colon) and all(part.isidentifier() for part in parts)


@contextmanager
def importable_from_here() -> Iterator[None]:
    """Put the current directory first on ``sys.path``, as ``python -m`` does."""
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


def import_function(reference: str, option: str) -> Callable[..., Any]:
    """Return the function that ``package.module:function`` names.

    Args:
        reference: The name; modules in the current directory are found too. A file is imported
            as a module of its name, with its folder searched for what it imports.
        option: The command line option that it came from, for messages.

    Raises:
        UsageError: It is no such name, cannot be imported, or is not callable.
    """
    if not is_reference(reference):
        raise UsageError(
            f"{option} {reference} does not name a function",
            hint=f"write {option} package.module:function, or path/to/file.py:function",
        )
    module_name, _, name = reference.rpartition(":")
    with importable_from_here():
        try:
            target: Any = _imported(module_name)
        except Exception as error:
            raise failed(f"cannot import {module_name}", f"{option} {reference}", error) from error
    for part in name.split("."):
        if not hasattr(target, part):
            raise UsageError(
                f"{module_name} has no {part!r}",
                where=f"{option} {reference}",
                why=f"it was imported from {getattr(target, '__file__', 'memory')}",
                hint="check the name after the colon",
            )
        target = getattr(target, part)
    if not callable(target):
        raise UsageError(
            f"this is a {type(target).__name__}, not a function",
            where=f"{option} {reference}",
            hint="name a function, or a class to be called without arguments",
        )
    function: Callable[..., Any] = target
    return function


def _imported(name: str) -> Any:
    """Return a module by its name, or by the path of its file."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = Path(name).resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    # What its classes are pickled by, and what it imports beside itself, is looked up later, too.
    known = sys.modules.setdefault(path.stem, module)
    if known is not module and getattr(known, "__file__", None) == str(path):
        return known
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if known is module:
            del sys.modules[path.stem]
        raise
    return module


def failed(what: str, where: str, error: BaseException) -> UsageError:
    """Return the error for user code that raised.

    Args:
        what: What was being done.
        where: The option and the name that the user gave.
        error: What was raised.
    """
    lines = str(error).strip().splitlines()
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return UsageError(
        what,
        where=where,
        why=f"{type(error).__name__}: {lines[0] if lines else 'no message'}{place}",
        hint="it is imported from the current directory and the installed packages",
        details="".join(traceback.format_exception(error)),
    )
