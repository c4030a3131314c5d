"""Win back accuracy that quantization loses: try each method of `recovery`, keep what surely helps.

Cross-validation in folds (Stone 1974, "Cross-Validatory Choice and Assessment of Statistical
Predictions"): what a method makes of the other samples is judged on those of a fold, so that every
sample is judged once, by what it had no part in. A method must gain more than chance on the worst
part of the outputs and all of them; all that is kept together must gain so much that chance, which
had as many tries as methods were not idle, hardly explains it, and no part may lose. An output may
not even have lost as far as its standard error leaves open. What is kept is made anew from all
samples at the end; if nothing is, the draft stays as it was.

Where a model's states come back as inputs, what saturates once errs in all steps that follow, and a
few samples hardly show it. So room against that need not be proven there, and a typical sample may
pay for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from edgeconv.core.artifacts import Array
from edgeconv.core.errors import InvalidModel
from edgeconv.quantize.recovery import RECOVERIES
from edgeconv.quantize.recovery.base import Draft, Recovery
from edgeconv.quantize.recovery.clipping import Clipping
from edgeconv.quantize.recovery.effort import Effort
from edgeconv.quantize.recovery.evidence import Gain
from edgeconv.quantize.recovery.headroom import eased
from edgeconv.quantize.recovery.judge import Figures, Judge
from edgeconv.quantize.statistics.calibrators import Calibrator, Seen

_AMPLE = 64
"""Where fewer drafts than that can be built, only half of the folds are judged."""

_BEST = (2, 1)
"""How many drafts of a method go on after the first fold, and after each that follows."""

_SAMPLES = 64
"""At most as many samples are used to choose."""

_VALUES = 1 << 26
"""Of models with large activations fewer, so that all of them together hold about as many values,
and only half of the folds are judged.
"""

_LEAST = 16
"""But not fewer than this for that reason."""

_FOLDS = 4
"""Of fewer the samples that are left set ranges much narrower than all do, so that room seems to
pay; more take longer. Of a large model half of them are judged."""

_HEAVY = 1 << 26
"""Bytes of weights of its own with which a draft is not kept while others are tried."""

_MANY = 32
"""Of so many samples one fold less is made: two thirds of them are enough to set ranges."""


@dataclass(frozen=True, slots=True)
class Step:
    """One method that was tried.

    Attributes:
        name: Its name.
        gain_db: What its best draft gained on calibration samples that it had not seen, in dB of
            SQNR: the average of that of the worst part of the outputs and that of all.
        kept: Whether that was worth it.
    """

    name: str
    gain_db: float
    kept: bool


@dataclass(frozen=True, slots=True)
class _Choice:
    """What was kept of a method: all that it takes to make the same of other samples.

    Attributes:
        method: The method.
        place: Which of its drafts.
        calibrator: The calibrator of that draft.
    """

    method: Recovery
    place: int
    calibrator: Calibrator

    def made(self, draft: Draft) -> Draft:
        """Return what the method makes of a draft; the draft where it is idle there."""
        if self.method.chooses_ranges:
            return replace(draft, calibrator=self.calibrator, ranges={})
        return next(islice(self.method.drafts(draft), self.place, None), draft)


@dataclass(frozen=True, slots=True)
class _Fold:
    """What all but some samples made, who judges it on these, and what it reached there."""

    draft: Draft
    judge: Judge
    figures: Figures


@dataclass(frozen=True, slots=True)
class _Trial:
    """A draft of a method in each of the first folds, and its figures there.

    Attributes:
        choice: What makes it.
        drafts: The draft; with the fold's graph in place of its own if it is ``bare``.
        figures: Its figures.
        bare: Whether its graph had so much to hold that it is to be made again.
    """

    choice: _Choice
    drafts: list[Draft] = field(default_factory=list)
    figures: list[Figures] = field(default_factory=list)
    bare: list[bool] = field(default_factory=list)

    def add(self, draft: Draft, figures: Figures, fold: _Fold) -> None:
        """Add what it is in one more fold."""
        heavy = draft.graph.bytes_beyond(fold.draft.graph) > _HEAVY
        self.drafts.append(replace(draft, graph=fold.draft.graph) if heavy else draft)
        self.figures.append(figures)
        self.bare.append(heavy)

    def onto(self, folds: Sequence[_Fold]) -> list[_Fold]:
        """Return all folds with what it made of them."""
        found = []
        for fold, made, bare, figures in zip(
            folds, self.drafts, self.bare, self.figures, strict=True
        ):
            whole = replace(made, graph=self.choice.made(fold.draft).graph) if bare else made
            found.append(replace(fold, draft=whole, figures=figures))
        return found

    def gain(self, folds: Sequence[_Fold]) -> Gain:
        """Return what it gains on the folds where it was measured."""
        before = [fold.figures for fold in folds[: len(self.figures)]]
        return Gain.of(_joined(self.figures), _joined(before))


@dataclass(frozen=True, slots=True)
class _Found:
    """What was kept so far.

    Attributes:
        start: The figures without it.
        recipe: What was kept.
        reached: The figures that each of these led to.
    """

    start: Figures
    recipe: list[_Choice]
    reached: list[Figures]

    def safe(self, found: Sequence[tuple[_Trial, Gain]]) -> list[tuple[_Trial, Gain]]:
        """Return those trials after which no part has lost since the start."""
        return [
            (trial, gain)
            for trial, gain in found
            if Gain.of(_joined(trial.figures), self.start).safe
        ]


def recover(
    draft: Draft,
    disabled: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Draft, list[Step], list[str]]:
    """Return the draft with what helps, what was tried, and notes on what was not.

    Where something helps, all samples have been seen, and none is left to it.

    Args:
        draft: The draft, with all its samples; without ranges.
        disabled: Names of methods that are left out.
        progress: Called with (methods tried, methods in all).
    """
    methods = [
        method
        for method in RECOVERIES
        if method.name not in disabled
        and not (method.chooses_ranges and "int8" not in draft.precisions)
    ]
    effort = Effort.of(draft.graph)
    folds = _folds(draft, effort)
    if not folds:
        return draft, [], []
    loops = bool(draft.graph.states)
    start = _joined(fold.figures for fold in folds)
    steps: list[Step] = []
    recipe: list[_Choice] = []
    reached: list[Figures] = []
    for count, method in enumerate(methods, 1):
        step, folds = _applied(method, folds, _Found(start, recipe, reached), effort)
        steps += [] if step is None else [step]
        if progress is not None:
            progress(count, len(methods))
    tries = len({step.name for step in steps})  # what is idle cannot gain by chance
    while reached and not _enough(Gain.of(reached[-1], start), recipe, tries, loops):
        del recipe[-1], reached[-1]
    notes = effort.note(draft.graph)
    if not recipe:
        return draft, [replace(step, kept=False) for step in steps], notes
    names = {choice.method.name for choice in recipe}
    known = len(folds[0].draft.feeds)
    del folds  # they may hold as many weights again, each
    made = _anew(draft, recipe, known)
    steps = [replace(step, kept=step.kept and step.name in names) for step in steps]
    return made, steps, notes


def _enough(gain: Gain, recipe: Sequence[_Choice], tries: int, loops: bool) -> bool:
    """Tell whether what a recipe gains is enough to keep it."""
    insures = loops and all(choice.method.worth_db < 0 for choice in recipe)
    return gain.proven(tries) or (insures and gain.spares and gain.total >= gain.error)


def _anew(draft: Draft, recipe: Sequence[_Choice], known: int) -> Draft:
    """Make of all samples what was chosen with as many as are known."""
    for choice in recipe:
        draft = choice.made(draft)
    more = float(np.log2(len(draft.feeds) / max(1, known)))
    draft = replace(draft, calibrator=eased(draft.calibrator, more), ranges={}).ready()
    return replace(draft, feeds=[]) if draft.seen else draft


def _folds(draft: Draft, effort: Effort) -> list[_Fold]:
    """Return the folds, every third or fourth sample in one; of very few each in one of its own.

    Each sample is seen once: what a fold's draft knows is joined from what the others hold.
    """
    few = _few(draft)
    large = len(few) < min(_SAMPLES, len(draft.feeds)) or effort.left < _AMPLE
    # Of a loop what is seen of its extremes counts most, and more folds leave more of it to each.
    fewer = len(few) >= _MANY and not large and not draft.graph.states
    count = min(_FOLDS, len(few)) - fewer
    if count < 2:
        return []
    judge = Judge(draft.graph, few)
    if not judge.outputs:
        return []
    shares = [replace(draft, feeds=few[place::count]).shown() for place in range(count)]
    folds = []
    for place in range(count // 2 if large else count):
        known = [feed for index, feed in enumerate(few) if index % count != place]
        others = [share for index, share in enumerate(shares) if index != place]
        seen = {index: Seen.joined([share[index] for share in others]) for index in shares[0]}
        made = replace(draft, feeds=known, seen=seen).calibrated()
        unseen = judge.on(slice(place, None, count))
        folds.append(_Fold(made, unseen, unseen.measure(made)))
        effort.left -= 1
    return folds


def _applied(
    method: Recovery,
    folds: list[_Fold],
    known: _Found,
    effort: Effort,
) -> tuple[Step | None, list[_Fold]]:
    """Try a method, or all its parts, each on what the last one left.

    Args:
        method: The method.
        folds: The folds.
        known: What was kept so far, to which is added.
        effort: What may be spent, from which is taken.

    Returns:
        What came of it, ``None`` where it is idle; and the folds as they are then.
    """
    gains, total, kept = [], 0.0, False
    for part in method.parts(folds[0].draft) if isinstance(method, Clipping) else (method,):
        trials = _trials(part, folds, effort)
        if not trials:
            continue
        found = [(trial, trial.gain(folds)) for trial in trials]
        whole = [pair for pair in found if len(pair[0].figures) == len(folds)]
        gains.append(max(gain.total for _, gain in whole or found))
        loops = bool(folds[0].draft.graph.states)
        chosen = _chosen(part, whole if loops else known.safe(whole), loops)
        if chosen is None:
            continue
        trial, gain = chosen
        kept, total = True, total + gain.total
        folds = trial.onto(folds)
        known.recipe.append(trial.choice)
        known.reached.append(_joined(trial.figures))
    if not gains:
        return None, folds
    return Step(method.name, total if kept else max(gains), kept), folds


def _trials(method: Recovery, folds: Sequence[_Fold], effort: Effort) -> list[_Trial]:
    """Try what a method proposes, fold by fold, as long as it may still be worth it.

    Passed over is what leads nowhere: LiteRT refuses scales that lie too far apart for its
    arithmetic, and values near the end of float32 have squares beyond it.
    """
    trials: dict[int, _Trial] = {}
    for number, fold in enumerate(folds):
        going = _going(method, trials, folds, number)
        if number and not going:
            break
        if not number and not effort.begins(method):
            break
        last = max(going) + 1 if number else None
        for place, draft in enumerate(islice(_proposed(method, fold.draft), last)):
            if number and place not in going:
                continue
            effort.left -= 1
            made = _measured(fold.judge, draft)
            if made is None:
                trials.pop(place, None)
                continue
            if place not in trials:
                choice = _Choice(method, place, made[0].calibrator)
                trials[place] = _Trial(choice)
            trials[place].add(*made, fold)
            del draft, made  # or they would be held while the next one is made
    return list(trials.values())


def _going(
    method: Recovery, trials: Mapping[int, _Trial], folds: Sequence[_Fold], number: int
) -> set[int]:
    """Return the places of the drafts that are tried in one more fold.

    The best of each fold go on: successive halving, after Jamieson and Talwalkar 2016,
    "Non-stochastic Best Arm Identification and Hyperparameter Optimization". Ranges are tried in
    all folds: what saturates may be in the last one.
    """
    known = {place: one for place, one in trials.items() if len(one.figures) == number}
    if method.chooses_ranges or not number:
        return set(known)
    gains = {place: one.gain(folds) for place, one in known.items()}
    worth = [place for place, gain in gains.items() if gain.total + gain.error >= method.worth_db]
    best = sorted(worth, key=lambda place: -gains[place].total)
    return set(best[: _BEST[min(number, len(_BEST)) - 1]])


def _proposed(method: Recovery, draft: Draft) -> Iterator[Draft]:
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            yield from method.drafts(draft)
    except (RuntimeError, InvalidModel, np.linalg.LinAlgError):
        return


def _measured(judge: Judge, draft: Draft) -> tuple[Draft, Figures] | None:
    """Return a draft with its ranges, and its figures; ``None`` where it does not run."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            ready = draft.ready()
            return ready, judge.measure(ready)
    except (RuntimeError, InvalidModel, np.linalg.LinAlgError):
        return None


def _joined(figures: Iterable[Figures]) -> Figures:
    return functools.reduce(Figures.join, figures)


def _chosen(
    method: Recovery, found: Sequence[tuple[_Trial, Gain]], loops: bool
) -> tuple[_Trial, Gain] | None:
    """Return the last trial that is as good as the best, up to the method's slack.

    An insurance, which may cost something, need only do no harm: to any part in a model that loops.
    """

    def fits(gain: Gain) -> bool:
        if method.worth_db >= 0:
            return gain.likely
        return gain.spares if loops else gain.harmless

    worth = [(trial, gain) for trial, gain in found if gain.total >= method.worth_db and fits(gain)]
    if not worth:
        return None
    most = max(gain.total for _, gain in worth)
    return [pair for pair in worth if pair[1].total >= most - method.slack_db][-1]


def _few(draft: Draft) -> Sequence[Sequence[Array]]:
    """Return the samples that are used, evenly spread."""
    graph = draft.graph
    size = sum(int(np.prod(graph.shape(index))) for index in graph.activations())
    count = min(_SAMPLES, max(_LEAST, _VALUES // max(size, 1)))
    step = max(1.0, len(draft.feeds) / count)
    places = np.arange(0, len(draft.feeds), step).astype(int)
    return [draft.feeds[place] for place in places.tolist()]
