"""Models with what Google's compiler made of them: one in the repository, more beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SMALL = Path(__file__).parent / "data" / "split_concat"
_MORE = Path(__file__).resolve().parents[4] / "shared" / "edgetpu_pairs"


def folders() -> list[Path]:
    """Return the folder of every pair that is there."""
    more = sorted(path.parent for path in _MORE.glob("*/truth.json")) if _MORE.is_dir() else []
    return [SMALL, *(path for path in more if path.name != SMALL.name)]


def truth(folder: Path) -> dict[str, Any]:
    """Return what became of the operators of a pair's source."""
    data: dict[str, Any] = json.loads((folder / "truth.json").read_text())
    return data
