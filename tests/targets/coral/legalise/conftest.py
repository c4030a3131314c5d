"""Float models to rewrite; see `tests.quantize.conftest`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.quantize.conftest import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)
