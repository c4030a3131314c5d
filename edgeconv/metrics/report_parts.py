"""What ``parity.json`` says beside the figures, each as it is measured, kept and shown.

Every class here is written by its `to_dict` alone, and read by `edgeconv.core.decode`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgeconv.core.decode import Malformed, key


@dataclass(frozen=True, slots=True)
class Histogram:
    """Absolute errors of one output, counted by their power of ten.

    Attributes:
        name: The output.
        exponents: Lower bound of each bin; smaller errors, and none, are in the first bin.
        counts: Elements in each; larger errors are in the last bin.
    """

    name: str
    exponents: tuple[int, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse bins that are not counted.

        Raises:
            Malformed: There are none, or more counts than bins, or fewer.
        """
        if not self.counts or len(self.counts) != len(self.exponents):
            raise Malformed("counts", "has another length than exponents")

    def to_dict(self) -> dict[str, Any]:
        """Return the entry in ``histograms`` of ``parity.json``."""
        return {
            "name": self.name,
            "exponents": list(self.exponents),
            "counts": list(self.counts),
        }


@dataclass(frozen=True, slots=True)
class SamplesSummary:
    """What reports say of samples, of those that the ranges of an integer model come from too.

    Attributes:
        source: Where the samples were read.
        samples: Their number.
        generated: Whether they were generated, not given.
        sha256: Their digest.
        ranges: Smallest and largest value of each input.
        kinds: What inputs are that hold no real numbers, by name.
    """

    source: str
    samples: int
    generated: bool
    sha256: str
    ranges: Mapping[str, tuple[float, float]]
    kinds: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return ``calibration`` of ``parity.json``, and what the manifest says of data."""
        return {
            "source": self.source,
            "samples": self.samples,
            "generated": self.generated,
            "sha256": self.sha256,
            "ranges": {name: list(limits) for name, limits in self.ranges.items()},
            **({"kinds": dict(self.kinds)} if self.kinds else {}),
        }


@dataclass(frozen=True, slots=True)
class Converter:
    """What made a SavedModel from ONNX.

    Attributes:
        name: ``native`` or ``onnx-tf``.
        why: Why that one did.
        versions: Of its packages; empty of our own.
    """

    name: str
    why: str
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return ``converter`` of a stage."""
        versions = {"versions": dict(self.versions)} if self.versions else {}
        return {"name": self.name, **versions, "why": self.why}


@dataclass(frozen=True, slots=True)
class Steps:
    """How far an integer output is from this CPU's, in steps of its quantization.

    Attributes:
        name: The output.
        max: Largest difference.
        mean: Mean difference.
    """

    name: str
    max: int
    mean: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of one sample on a device, in milliseconds.

    Attributes:
        first: The first run.
        median: The median of the others.
        p90: Their 90th percentile.
        runs: Their number.
    """

    first: float
    median: float
    p90: float
    runs: int


@dataclass(frozen=True, slots=True)
class DeviceRun:
    """What a deployment knows of the run on its device.

    Attributes:
        device: The device, as it was called: a host's name, or this machine.
        ran_on: What ran the model there: ``cpu``, or the accelerator.
        fallback: Why the CPU took over; ``None`` where it did not.
        advice: What would make the accelerator work; empty without a fallback.
        latency_ms: How long a sample takes.
        memory_bytes: The peak of the process that ran it; ``None`` where it is not known.
        python: Version of the device's Python.
        machine: The device's processor and system.
        max_lsb: Steps that an output may be away from this CPU's.
        lsb: How far the integer outputs are from this CPU's.
    """

    device: str
    ran_on: str
    fallback: str | None
    advice: str
    latency_ms: Latency
    memory_bytes: int | None
    python: str
    machine: str
    max_lsb: int
    lsb: tuple[Steps, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what a stage has in addition that a device ran."""
        return {
            "ran_on": self.ran_on,
            "fallback": self.fallback,
            "max_lsb": self.max_lsb,
            "lsb": [asdict(item) for item in self.lsb],
            "advice": self.advice,
            "latency_ms": asdict(self.latency_ms),
            "memory_bytes": self.memory_bytes,
            "python": self.python,
            "machine": self.machine,
            "device": self.device,
        }


@dataclass(frozen=True, slots=True)
class Regression:
    """One figure that has become worse than in a baseline.

    Attributes:
        stage: The stage.
        output: The output.
        metric: The figure's name.
        before: The earlier figure.
        after: The figure now; ``None`` where the stage or output is gone or cannot be measured.
        part: The part of the output that it is of, in words; ``""`` for the whole.
    """

    stage: str
    output: str
    metric: str
    before: float
    after: float | None
    part: str = ""

    def __str__(self) -> str:
        now = "cannot be measured any more" if self.after is None else f"is now {self.after:.4g}"
        place = f"{self.output}, {self.part}" if self.part else self.output
        return f"output {place}: {self.metric} was {self.before:.4g} and {now}"

    def to_dict(self) -> dict[str, Any]:
        """Return the entry in ``regressions`` of ``parity.json``."""
        data = asdict(self)
        if not self.part:
            del data["part"]
        return data


@dataclass(frozen=True, slots=True)
class Match:
    """Two tensors of two models that correspond.

    Attributes:
        kind: ``input`` or ``output``.
        first: Name in the first model.
        second: Name in the second model.
        why: What makes them correspond, names and layout.
    """

    kind: str
    first: str = field(metadata=key("a"))
    second: str = field(metadata=key("b"))
    why: str

    def to_dict(self) -> dict[str, str]:
        """Return the entry in ``correspondence`` of ``parity.json``."""
        return {"kind": self.kind, "a": self.first, "b": self.second, "why": self.why}


@dataclass(frozen=True, slots=True)
class Against:
    """The converter whose SavedModel, the last stage, is compared with our own.

    Attributes:
        converter: Its name.
        versions: Of its packages.
    """

    converter: str
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return ``against`` of ``parity.json``."""
        return {"converter": self.converter, "versions": dict(self.versions)}
