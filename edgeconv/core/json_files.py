"""Read JSON files that nobody vouches for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeconv.core.errors import InvalidModel


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        InvalidModel: It is missing, damaged, or holds something else.
    """
    try:
        value = json.loads(path.read_text())
    except RecursionError as error:
        why = "its values are nested too deeply"
        raise InvalidModel("cannot read this file", where=str(path), why=why) from error
    except (OSError, ValueError) as error:
        raise InvalidModel("cannot read this file", where=str(path), why=str(error)) from error
    if not isinstance(value, dict):
        raise InvalidModel("cannot read this file", where=str(path), why="it is not a JSON object")
    return value
