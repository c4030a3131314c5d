"""Where the environments are kept."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

VARIABLE = "EDGECONV_HOME"
"""The environment variable that says where edgeconv keeps what it installs."""


def home() -> Path:
    """Return the directory of what edgeconv installs, which need not exist.

    That is ``EDGECONV_HOME``, else ``edgeconv`` in the user's cache directory.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    return user_cache_path("edgeconv", appauthor=False)
