"""Win back accuracy that quantization loses: try each method of `recovery`, keep what helps.

Two-fold cross-validation (Stone 1974, "Cross-Validatory Choice and Assessment of Statistical
Predictions"): what a method makes of one half of the calibration samples is judged on the other
half, and the other way round. A method must gain over all samples together, where the few that
saturate count most, and also on a typical one by more than chance. At the end all samples set the
ranges of what was kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgeconv.artifacts import Array
from edgeconv.errors import InvalidModel
from edgeconv.quantize.judge import Figures, Judge
from edgeconv.quantize.recovery import RECOVERIES
from edgeconv.quantize.recovery.base import Draft, Recovery
from edgeconv.quantize.recovery.clipping import Clipping
from edgeconv.quantize.recovery.headroom import eased

_SAMPLES = 64
"""At most as many samples are used."""

_VALUES = 1 << 26
"""Of models with large activations fewer, so that all of them together hold about as many values,
and one half judges the other alone.
"""

_LEAST = 16
"""But not fewer than this for that reason."""

_FEWEST = 4
"""Fewer are not split. What sets the ranges then judges, too, but not the choice of ranges."""


@dataclass(frozen=True, slots=True)
class Step:
    """One method that was tried.

    Attributes:
        name: Its name.
        gain_db: What its best draft gained on calibration samples that it had not seen, in dB of
            SQNR: the average of that of the worst output and that of all.
        kept: Whether that was worth it.
    """

    name: str
    gain_db: float
    kept: bool


def recover(
    draft: Draft,
    disabled: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Draft, list[Step]]:
    """Return the draft with what helps, and what was tried.

    The samples that it is left with are those that `Draft.seen` and the ranges are not from.

    Args:
        draft: The draft, with all its samples; without ranges.
        disabled: Names of methods that are left out.
        progress: Called with (methods tried, methods in all).
    """
    few = _few(draft)
    halves = (few[::2], few[1::2])
    split = len(few) >= _FEWEST
    pairs = list(zip(halves, halves[::-1], strict=True)) if split else [(few, few)]
    if len(few) < min(_SAMPLES, len(draft.feeds)):
        pairs = pairs[:1]
    folds = [
        _Fold(replace(draft, feeds=known).watched(), Judge(draft.graph, unseen))
        for known, unseen in pairs
    ]
    steps: list[Step] = []
    if not folds[0].judge.outputs:
        return draft, steps
    methods = [
        method
        for method in RECOVERIES
        if method.name not in disabled
        and not (method.chooses_ranges and (not split or "int8" not in draft.precisions))
    ]
    reached = _joined(fold.judge.measure(fold.draft) for fold in folds)
    for count, method in enumerate(methods, 1):
        step, reached, folds = _applied(method, folds, reached)
        steps += [] if step is None else [step]
        if progress is not None:
            progress(count, len(methods))
    best = folds[0].draft
    used = {id(feed) for feed in best.feeds}
    left = [feed for feed in draft.feeds if id(feed) not in used]
    more = float(np.log2(max(1, len(draft.feeds)) / max(1, len(used))))
    return replace(best, feeds=left, calibrator=eased(best.calibrator, more)), steps


@dataclass(frozen=True, slots=True)
class _Fold:
    """What one part of the samples made, and who judges it on the other."""

    draft: Draft
    judge: Judge


def _applied(
    method: Recovery, folds: list[_Fold], reached: Figures
) -> tuple[Step | None, Figures, list[_Fold]]:
    """Try a method, or all its parts, each on what the last one left.

    Returns:
        What came of it, ``None`` where it is idle; the figures and the folds that are left.
    """
    before, gains, kept = reached.score, [], False
    for part in method.parts(folds[0].draft) if isinstance(method, Clipping) else (method,):
        trials = list(_trials(part, folds))
        if not trials:
            continue
        figures, drafts = _chosen(part, trials, reached)
        gains.append(figures.score - reached.score)
        sure = part.chooses_ranges or _sure(figures.each - reached.each)
        if gains[-1] >= part.worth_db and sure:
            kept, reached = True, figures
            pairs = zip(folds, drafts, strict=True)
            folds = [replace(fold, draft=found) for fold, found in pairs]
    if not gains:
        return None, reached, folds
    return Step(method.name, reached.score - before if kept else max(gains), kept), reached, folds


_Trial = tuple[Figures, list[Draft]]
"""Figures over all samples, and the draft of each fold."""


def _trials(method: Recovery, folds: Sequence[_Fold]) -> Iterator[_Trial]:
    """Try what a method proposes; where folds lead to different proposals, what both have.

    Passed over is what leads nowhere: LiteRT refuses scales that lie too far apart for its
    arithmetic, and values near the end of float32 have squares beyond it.
    """
    proposals = zip(*(method.drafts(fold.draft) for fold in folds), strict=False)
    with np.errstate(over="ignore", invalid="ignore"):
        while True:
            try:
                drafts = next(proposals)
                pairs = zip(folds, drafts, strict=True)
                figures = [fold.judge.measure(found) for fold, found in pairs]
            except StopIteration:
                return
            except (RuntimeError, InvalidModel, np.linalg.LinAlgError):
                continue
            yield _joined(figures), list(drafts)


def _joined(figures: Iterable[Figures]) -> Figures:
    return functools.reduce(Figures.join, figures)


def _chosen(method: Recovery, trials: Sequence[_Trial], reached: Figures) -> _Trial:
    """Return the last trial that is as good as the best, up to the method's slack."""
    most = max(figures.score for figures, _ in trials)
    least = max(most - method.slack_db, min(most, reached.score + method.worth_db))
    return [trial for trial in trials if trial[0].score >= least][-1]


def _sure(gains: npt.NDArray[np.float64]) -> bool:
    """Tell whether the mean gain is above its standard error."""
    error = gains.std(ddof=1) / np.sqrt(gains.size) if gains.size > 1 else 0.0
    return bool(gains.mean() >= error)


def _few(draft: Draft) -> Sequence[Sequence[Array]]:
    """Return the samples that are used, evenly spread."""
    graph = draft.graph
    size = sum(int(np.prod(graph.shape(index))) for index in graph.activations())
    count = min(_SAMPLES, max(_LEAST, _VALUES // max(size, 1)))
    step = max(1.0, len(draft.feeds) / count)
    places = np.arange(0, len(draft.feeds), step).astype(int)
    return [draft.feeds[place] for place in places.tolist()]
