"""The environments that can be installed. A new one is an entry of `ENVIRONMENTS` and a lock file.

A lock file is made by ``pip-compile --generate-hashes``; its comments say from what.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from edgeconv.core.errors import UsageError

_LOCKS = Path(__file__).resolve().parents[1] / "locks"


@dataclass(frozen=True, slots=True)
class Environment:
    """One isolated environment.

    Attributes:
        name: What ``edgeconv toolchain`` calls it; also the name of its lock file.
        package: The distribution that it is for.
        version: That distribution's version.
        use: What it is good for, one line.
        pythons: Versions of CPython that the locked wheels are for, the preferred one first.
        self_test: ``module:function`` that is called with the environment's Python and raises
            where a small real piece of work fails.
    """

    name: str
    package: str
    version: str
    use: str
    pythons: tuple[tuple[int, int], ...]
    self_test: str

    @property
    def lock_file(self) -> Path:
        """The requirements, with a hash for every file."""
        return _LOCKS / f"{self.name}.txt"

    @property
    def requirements(self) -> tuple[str, ...]:
        """What is locked, ``"numpy==1.24.4"``."""
        lines = self.lock_file.read_text().splitlines()
        return tuple(line.split()[0] for line in lines if line[:1].isalnum() and "==" in line)

    @property
    def digest(self) -> str:
        """SHA-256 of the lock file: what is installed from another one is out of date."""
        return hashlib.sha256(self.lock_file.read_bytes()).hexdigest()


ENVIRONMENTS: dict[str, Environment] = {
    environment.name: environment
    for environment in (
        Environment(
            "onnx-tf",
            "onnx-tf",
            "1.10.0",
            "another converter from ONNX to SavedModel: --converter onnx-tf",
            ((3, 11),),
            "edgeconv.toolchain.environments.onnx_tf:self_test",
        ),
        Environment(
            "tflite-runtime",
            "tflite-runtime",
            "2.14.0",
            "the TFLite runtime of many boards: --runtime tflite-runtime",
            ((3, 11), (3, 10), (3, 9), (3, 8)),
            "edgeconv.toolchain.environments.tflite_runtime:self_test",
        ),
    )
}
"""Every environment by its name."""


def find(name: str) -> Environment:
    """Return the environment of a name.

    Raises:
        UsageError: There is none.
    """
    if name not in ENVIRONMENTS:
        raise UsageError(
            f"there is no tool {name}", hint="use one of " + ", ".join(sorted(ENVIRONMENTS))
        )
    return ENVIRONMENTS[name]
