"""The default gates of every stage, those that targets add included."""

from __future__ import annotations

from edgeconv.core import gates
from edgeconv.core.gates import DEFAULT_GATES, Gate, Gates
from edgeconv.targets import every


def known_gates() -> Gates:
    """Return the default gates by stage."""
    found = dict(DEFAULT_GATES)
    for target in every():
        found |= target.gates
    return found


def gate_for(stage: str, overrides: Gates, *, simulated: bool = False, reference: str = "") -> Gate:
    """Return the gate of a stage; see `edgeconv.core.gates.gate_for`."""
    return gates.gate_for(
        stage, overrides, simulated=simulated, reference=reference, known=known_gates()
    )


def require_stages(overrides: Gates) -> None:
    """Refuse gates of stages that neither the pipeline nor a target has.

    Raises:
        UsageError: There is no such stage.
    """
    stages = known_gates()
    for stage in overrides:
        gates.check_stage(stage, stages)


def float_stages() -> tuple[str, ...]:
    """Return the names of the stages whose .tflite files were not quantized."""
    return ("tflite_fp32", *(name for target in every() for name in target.float_stage_names))
