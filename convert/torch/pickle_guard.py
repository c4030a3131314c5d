"""List what a pickle would import, without unpickling it."""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import IO

from edgeconv.core.errors import InvalidModel

# Enough to name the culprit; a hostile pickle can be as long as it likes.
_MAX_OPCODES = 5_000_000
_TAKES_STRING = ("UNICODE", "STRING")


def imported_names(stream: IO[bytes]) -> list[str]:
    """Return ``module.name`` of every global that a pickle names, in order, once each.

    Unpickling is a little program; the opcodes that import (GLOBAL, STACK_GLOBAL, INST) are the
    only way to code outside the pickle. Names that are computed on the stack appear as ``?``.

    Args:
        stream: The pickle, read up to its STOP opcode.

    Raises:
        ValueError: It is not a whole pickle.
    """
    names: dict[str, None] = {}
    strings: list[str] = []
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count > _MAX_OPCODES:
            raise ValueError("the pickle is unreasonably long")
        if opcode.name in ("GLOBAL", "INST"):
            names[str(argument).replace(" ", ".")] = None
        elif opcode.name == "STACK_GLOBAL":
            names[".".join(strings[-2:]) if len(strings) > 1 else "?"] = None
        elif any(kind in opcode.name for kind in _TAKES_STRING):
            strings = [*strings[-1:], str(argument)]
    return list(names)


def imported_by_file(path: Path) -> list[str]:
    """Return what the pickle of a torch.save file imports, zip or not.

    Args:
        path: A zip with a ``data.pkl``, or a bare pickle stream as torch.save wrote before 1.6.

    Raises:
        InvalidModel: The pickle is truncated or corrupt.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                member = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
                return imported_names(io.BytesIO(archive.read(member)))
        with path.open("rb") as file:
            return _imported_by_stream(file)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, StopIteration) as error:
        raise InvalidModel(
            "the pickle is truncated or corrupt",
            where=str(path),
            why=str(error).splitlines()[0] if str(error) else type(error).__name__,
            hint="copy or save the model again",
        ) from error


def _imported_by_stream(file: IO[bytes]) -> list[str]:
    """Return the names of all pickles in a row: magic, protocol, system, object, storage keys."""
    names: dict[str, None] = {}
    for _ in range(5):
        position = file.tell()
        if not file.read(1):
            break
        file.seek(position)
        names |= dict.fromkeys(imported_names(file))
    return list(names)
