"""What texts with a unit or a range mean."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from edgeconv.core.errors import UsageError
from edgeconv.core.wording import named


@dataclass(frozen=True, slots=True)
class MaxDrop:
    """The most that an int8 model may lose.

    Attributes:
        amount: In dB, how far the SQNR of any output may lie below that of the same model with all
            activations in 16 bits. In points, the share of samples in percent whose top class may
            change.
        unit: ``dB`` or ``points``.
    """

    amount: float
    unit: Literal["dB", "points"]

    @classmethod
    def parse(cls, text: str) -> MaxDrop:
        """Return what ``3dB``, ``0.5%`` or ``0.5points`` means.

        Raises:
            UsageError: The text is none of these.
        """
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(dB|%|points?)\s*", text, re.IGNORECASE)
        if found is None:
            raise UsageError(
                f"{named('max_drop')} {text} is not understood",
                hint="write decibels as 3dB, points of accuracy as 0.5%",
            )
        return cls(float(found[1]), "dB" if found[2].lower() == "db" else "points")


def parse_range(text: str) -> tuple[str, float, float]:
    """Return what ``LO,HI`` or ``NAME=LO,HI`` means: a name, which may be empty, and the ends.

    Raises:
        UsageError: The text is neither, or the ends are no range.
    """
    name, _, ends = text.rpartition("=")
    try:
        low, high = (float(end) for end in ends.split(","))
    except ValueError:
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(
            f"{named('input_range')} {text} is not understood",
            hint="write the lowest and the highest value, as 0,1 or image=-1,1",
        )
    return name.strip(), low, high
