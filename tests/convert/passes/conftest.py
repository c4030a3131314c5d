"""Every rewrite is tested under the checks of `tests.convert.invariants`."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _watched(invariants: None) -> None:
    """Check layouts and shapes after every rewrite and translation."""
