"""Sound answers of a board, for tests that change them."""

from __future__ import annotations

from typing import Any

RAN: dict[str, Any] = {
    "ran_on": "cpu",
    "fallback": None,
    "advice": "",
    "runtime": "tflite-runtime 2.14",
    "latency_ms": {"first": 1.0, "median": 1.0, "p90": 1.0, "runs": 3},
    "memory_bytes": 5,
    "python": "3.9",
    "machine": "aarch64",
}
"""What the runner prints after a run."""
