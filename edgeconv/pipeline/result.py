"""What a conversion returns, and what its manifest says of it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeconv.core.artifacts import Artifact
from edgeconv.core.bundle import artifact_of
from edgeconv.core.disk import sha256_of
from edgeconv.core.errors import EdgeconvError
from edgeconv.core.job import Job
from edgeconv.metrics.report import ParityReport
from edgeconv.reports.headline import is_uncalibrated
from edgeconv.toolchain.runtimes.samples import core_count

_TOOLS = (
    "edgeconv",
    "torch",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "tensorflow-cpu",
    "tensorflow",
    "ai-edge-litert",
    "numpy",
)


@dataclass(frozen=True, slots=True)
class Failure:
    """The stage that failed, after others that are worth keeping."""

    stage: str
    error: EdgeconvError

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's form."""
        return {**self.error.to_dict(), "stage": self.stage}


@dataclass(frozen=True, slots=True)
class Result:
    """A finished conversion.

    Attributes:
        path: The bundle directory.
        manifest: The content of ``manifest.json``.
        parity: How every stage compares with the model, as ``parity.json`` says it.
    """

    path: Path
    manifest: Mapping[str, Any]
    parity: ParityReport

    @property
    def passed(self) -> bool:
        """Whether no parity gate failed; also true of a bundle that was not verified."""
        return self.parity.passed

    @property
    def verified(self) -> bool:
        """Whether parity was checked."""
        return bool(self.manifest["verified"])

    @property
    def uncalibrated(self) -> bool:
        """Whether an integer model's ranges come from generated inputs."""
        return is_uncalibrated(self.manifest)

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """The artifacts by stage name, in the pipeline's order."""
        return {entry["name"]: artifact_of(entry, self.path) for entry in self.manifest["stages"]}

    @property
    def model(self) -> Artifact:
        """The last stage's artifact, the one to deploy."""
        return list(self.artifacts.values())[-1]


def describe_job(job: Job) -> dict[str, Any]:
    """Return what the manifest says of the call."""
    return {
        "model": job.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(job.command),
        "source": _describe_source(job),
        "options": job.options.to_dict(),
    }


def _describe_source(job: Job) -> dict[str, Any]:
    if not job.is_file:
        return {"file": None, "sha256": None, "factory": job.factory}
    path = Path(job.source)
    return {"file": str(path), "sha256": sha256_of(path), "factory": job.factory}


def environment() -> dict[str, str]:
    """Return the versions of everything that had a part in the result."""
    found = {"python": platform.python_version()}
    for name in _TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    found["platform"] = platform.platform()
    found["machine"] = f"{platform.machine()}, {core_count()} cores"
    return found
