"""The devices that a model can be converted for."""

from __future__ import annotations

from edgeconv.errors import UsageError, meant
from edgeconv.targets.base import Target
from edgeconv.targets.coral.target import Coral
from edgeconv.targets.cpu import Cpu

TARGETS: dict[str, Target] = {target.name: target for target in (Cpu(), Coral())}
"""Every target by name."""


def find(name: str) -> Target:
    """Return the target of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in TARGETS:
        known = {other: target.name for target in TARGETS.values() for other in target.also_called}
        hint = f"did you mean {known[name]}?" if name in known else meant(name, TARGETS)
        raise UsageError(f"--target {name} is not known", hint=hint)
    return TARGETS[name]
