"""Ask installed runtimes for the newest version of each operator that they have.

``python -m benchmarks.op_versions`` prints the content of ``toolchain/runtimes/op_versions.json``,
for the runtime of ``edgeconv toolchain install tflite-runtime`` or of other Pythons that have one,
or an old TensorFlow: ``--python`` may be repeated.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edgeconv.tflite import file as tflite
from edgeconv.toolchain.environments.manage import require
from edgeconv.toolchain.environments.tflite_runtime import ENVIRONMENT, known_operators

_NEWEST = 20  # more than any operator of the schema has


def measure(python: Path) -> dict[str, dict[str, int]]:
    """Return the newest version of each builtin, by the name of the runtime."""
    asked = [
        (name, version)
        for name in tflite.BUILTIN_CODES
        if name not in ("CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES")
        for version in range(1, _NEWEST + 1)
    ]
    known, runtime = known_operators(python, asked)
    newest: dict[str, int] = {}
    for (name, number), there in zip(asked, known, strict=True):
        if there:
            newest[name] = max(number, newest.get(name, 0))
    return {runtime: dict(sorted(newest.items()))}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, action="append", help="a Python with a runtime")
    tables: dict[str, dict[str, int]] = {}
    for python in parser.parse_args().python or [require(ENVIRONMENT)]:
        tables |= measure(python)
    print(json.dumps(tables, indent=1))


if __name__ == "__main__":
    main()
