"""Methods that win back accuracy; `recover` tries each and keeps what helps.

To add one, write a class with the members of `base.Recovery` in a module of its own, and list it in
`RECOVERIES`.
"""

from __future__ import annotations

from edgeconv.quantize.recovery.base import Recovery
from edgeconv.quantize.recovery.batch_norm import BatchNorm
from edgeconv.quantize.recovery.bias import BiasCorrection
from edgeconv.quantize.recovery.clipping import Clipping
from edgeconv.quantize.recovery.equalize import Equalize
from edgeconv.quantize.recovery.headroom import Headroom
from edgeconv.quantize.recovery.outliers import Outliers
from edgeconv.quantize.recovery.padding import Padding
from edgeconv.quantize.recovery.quotients import Quotients
from edgeconv.quantize.recovery.rounding import Rounding

RECOVERIES: tuple[Recovery, ...] = (
    BatchNorm(),
    Padding(),
    Quotients(),
    Headroom(worth_db=-0.3, reach=4),
    Equalize(),
    Outliers(),
    Rounding(),
    BiasCorrection(),
    Headroom(),
    Clipping(),
)
"""In the order in which they are tried: what changes the graph first, what tunes it last. Room is
made before, because saturation hides what else there is to win, and again in the end."""

RETIRED = ("split-concat",)
"""Names that are still taken, of what is no longer tried but always done."""
