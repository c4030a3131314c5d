"""The JSON Schema of ``parity.json``."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def parity_schema() -> dict[str, Any]:
    """Return the schema, draft 2020-12, of the ``parity.json`` that this version writes."""
    text = resources.files("edgeconv").joinpath("schemas/parity.schema.json").read_text()
    schema: dict[str, Any] = json.loads(text)
    return schema
