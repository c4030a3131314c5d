"""What a device computed, against the reference and against this machine's CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeconv.core.artifacts import Array, Arrays, TensorSpec
from edgeconv.core.gates import Gates
from edgeconv.metrics import parity
from edgeconv.metrics.judging import row_tolerance
from edgeconv.metrics.parts import Anatomy
from edgeconv.metrics.report import FAIL, PASS, StageParity
from edgeconv.metrics.report_parts import Steps
from edgeconv.targets.gates import gate_for

TOP1_AGREEMENT = 0.95
"""Share of rows whose top class must be that of the same model on this CPU."""


def steps(
    specs: Sequence[TensorSpec], expected: Sequence[Array], actual: Sequence[Array]
) -> tuple[Steps, ...]:
    """Return the distance of each integer output, stored form; float outputs have none."""
    found = []
    for spec, ours, theirs in zip(specs, expected, actual, strict=True):
        if spec.dtype in ("int8", "uint8") and ours.shape == theirs.shape and ours.size:
            distance = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
            found.append(Steps(spec.name, int(distance.max()), float(distance.mean())))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The samples' outputs in the source model's form.

    Attributes:
        reference: What PyTorch or ONNX computed.
        here: What the model computes on this CPU.
        there: What it computed on the device.
        steps: Their distance as they are stored.
        anatomy: What the model's graph tells of the outputs.
    """

    reference: Arrays
    here: Arrays
    there: Arrays
    steps: tuple[Steps, ...]
    anatomy: Anatomy = field(default_factory=Anatomy)


def judge(
    stage: str, file: str, previous: str, outcome: Outcome, gates: Gates, max_lsb: int
) -> StageParity:
    """Return the stage's parity, without what only the device knows.

    An accelerator is not bit-exact with a CPU: an output may differ by a few steps of its
    quantization. Besides the gate against the reference, each integer output must stay within
    `max_lsb` steps of this CPU's, and class scores must name the same class.
    """
    gate = gate_for(stage, gates)
    tolerance = row_tolerance(gate)
    anatomy = outcome.anatomy.asked(gates.values())
    expected = parity.Reference(outcome.reference, anatomy)
    figures = expected.compare(outcome.there, tolerance)
    here = parity.Reference(outcome.here, anatomy, expected.parts, counts=False)
    before = here.compare(outcome.there, tolerance)
    reasons = list(parity.reasons(figures, gate))
    reasons += [
        f"output {item.name}: {item.max} LSB from this CPU, more than {max_lsb}"
        for item in outcome.steps
        if item.max > max_lsb
    ]
    reasons += [
        f"output {f.name}: {text} (against this CPU)"
        for f in before
        for text in parity.failures(f, {"top1_agreement": TOP1_AGREEMENT})
    ]
    return StageParity(
        stage,
        file,
        FAIL if reasons else PASS,
        gate,
        None,
        figures,
        previous,
        before,
        tuple(reasons),
    )
