"""Where the environments are kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "EDGECONV_HOME"
"""The environment variable that says where edgeconv keeps what it installs."""


def home() -> Path:
    """Return the directory of what edgeconv installs, which need not exist.

    That is ``EDGECONV_HOME``, else ``edgeconv`` in the user's cache directory: that of the XDG Base
    Directory Specification on Linux, ``~/Library/Caches`` on macOS.
    """
    chosen = os.environ.get(VARIABLE)
    return Path(chosen).expanduser().absolute() if chosen else _cache() / "edgeconv"


def _cache() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    # The specification says to ignore relative paths.
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return chosen if chosen.is_absolute() else Path.home() / ".cache"
