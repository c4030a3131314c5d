"""What a verification found, and how it is judged against an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.core.artifacts import Arrays
from edgeconv.core.bundle import PARITY, read_json
from edgeconv.core.errors import InvalidModel
from edgeconv.metrics.report import FAIL
from edgeconv.parity.baseline import regressions


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification found.

    Attributes:
        manifest: The bundle's manifest; of two models, as much of one as reports need.
        parity: The content of a ``parity.json``.
        vectors: Inputs that it was measured on, the reference's outputs, and those of the last
            stage that could be run, by name.
    """

    manifest: Mapping[str, Any]
    parity: dict[str, Any]
    vectors: tuple[Arrays, Arrays, Arrays] = ({}, {}, {})

    @property
    def passed(self) -> bool:
        """Whether no gate failed and nothing regressed."""
        return bool(self.parity["verdict"] != FAIL)


def read_baseline(path: Path | None) -> dict[str, Any] | None:
    """Read an earlier ``parity.json``, or that of a bundle; ``None`` for none.

    Raises:
        InvalidModel: It is missing, or something else.
    """
    if path is None:
        return None
    content = read_json(path / PARITY if path.is_dir() else path)
    try:
        sound = isinstance(content["stages"], list) and all(map(_is_stage, content["stages"]))
    except (LookupError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise InvalidModel(
            "the baseline is not a parity.json",
            where=str(path),
            why="its stages are not what edgeconv writes",
            hint="give the parity.json of a bundle, or the bundle",
        )
    return content


def _is_stage(stage: Mapping[str, Any]) -> bool:
    """Tell whether an entry has what a comparison reads, of the right types."""
    outputs = stage["outputs"]
    return (
        isinstance(stage["stage"], str)
        and isinstance(outputs, list)
        and all(
            isinstance(output["name"], str)
            and _has_figures(output)
            and all(
                isinstance(part["name"], str) and "sqnr_db" in part and _has_figures(part)
                for part in output.get("parts", ())
            )
            for output in outputs
        )
    )


def _has_figures(entry: Mapping[str, Any]) -> bool:
    return all(
        isinstance(entry.get(name), int | float | None)
        for name in ("sqnr_db", "top1_agreement", "exact")
    )


def judged(
    parity: dict[str, Any], baseline: Mapping[str, Any] | None, tolerance_db: float
) -> dict[str, Any]:
    """Return the parity with what has become worse; the stages concerned fail."""
    if baseline is None:
        return parity
    found = regressions(baseline, parity, decibel=tolerance_db)
    stages = []
    for stage in parity["stages"]:
        reasons = [f"regression: {item}" for item in found if item.stage == stage["stage"]]
        status = FAIL if reasons else stage["status"]
        stages.append({**stage, "status": status, "reasons": [*stage["reasons"], *reasons]})
    return {
        **parity,
        "stages": stages,
        "verdict": FAIL if found else parity["verdict"],
        "regressions": [item.to_dict() for item in found],
    }
