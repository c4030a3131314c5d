"""Win back accuracy that quantization loses: try each method of `recovery`, keep what surely helps.

Cross-validation in folds (Stone 1974, "Cross-Validatory Choice and Assessment of Statistical
Predictions"): what a method makes of the other samples is judged on those of a fold, so that every
sample is judged once, by what it had no part in. A method must gain more than chance on the worst
part of the outputs and all of them; all that is kept together must gain so much that chance, which
had as many tries as methods were not idle, hardly explains it, and no part may lose. An output may
not even have lost as far as its standard error leaves open. What is kept is made anew from all
samples at the end; if nothing is, the candidate stays as it was.

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
from edgeconv.quantize.recovery.base import Candidate, Recovery
from edgeconv.quantize.recovery.clipping import Clipping
from edgeconv.quantize.recovery.effort import Effort
from edgeconv.quantize.recovery.evaluator import Evaluator, Sqnr
from edgeconv.quantize.recovery.evidence import Gain
from edgeconv.quantize.recovery.headroom import with_margin
from edgeconv.quantize.statistics.calibrators import Calibrator, HistogramObserver

_AMPLE = 64
"""Where fewer candidates than that can be built, only half of the folds are judged."""

_BEST = (2, 1)
"""How many candidates of a method go on after the first fold, and after each that follows."""

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
"""Bytes of weights of its own with which a candidate is not kept while others are tried."""

_MANY = 32
"""Of so many samples one fold less is made: two thirds of them are enough to set ranges."""


@dataclass(frozen=True, slots=True)
class Step:
    """One method that was tried.

    Attributes:
        name: Its name.
        gain_db: What its best candidate gained on calibration samples that it had not seen, in dB
            of SQNR: the average of that of the worst part of the outputs and that of all.
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
        place: Which of its candidates.
        calibrator: The calibrator of that candidate.
    """

    method: Recovery
    place: int
    calibrator: Calibrator

    def made(self, candidate: Candidate) -> Candidate:
        """Return what the method makes of a candidate; the candidate where it is idle there."""
        if self.method.chooses_ranges:
            return replace(candidate, calibrator=self.calibrator, ranges={})
        return next(islice(self.method.candidates(candidate), self.place, None), candidate)


@dataclass(frozen=True, slots=True)
class _Fold:
    """What all but some samples made, who judges it on these, and what it reached there."""

    candidate: Candidate
    evaluator: Evaluator
    figures: Sqnr


@dataclass(frozen=True, slots=True)
class _Trial:
    """A candidate of a method in each of the first folds, and its figures there.

    Attributes:
        choice: What makes it.
        candidates: The candidate; with the fold's graph in place of its own if it is ``bare``.
        figures: Its figures.
        bare: Whether its graph had so much to hold that it is to be made again.
    """

    choice: _Choice
    candidates: list[Candidate] = field(default_factory=list)
    figures: list[Sqnr] = field(default_factory=list)
    bare: list[bool] = field(default_factory=list)

    def add(self, candidate: Candidate, figures: Sqnr, fold: _Fold) -> None:
        """Add what it is in one more fold."""
        heavy = candidate.graph.bytes_beyond(fold.candidate.graph) > _HEAVY
        kept = replace(candidate, graph=fold.candidate.graph) if heavy else candidate
        self.candidates.append(kept)
        self.figures.append(figures)
        self.bare.append(heavy)

    def onto(self, folds: Sequence[_Fold]) -> list[_Fold]:
        """Return all folds with what it made of them."""
        found = []
        for fold, made, bare, figures in zip(
            folds, self.candidates, self.bare, self.figures, strict=True
        ):
            whole = replace(made, graph=self.choice.made(fold.candidate).graph) if bare else made
            found.append(replace(fold, candidate=whole, figures=figures))
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

    start: Sqnr
    recipe: list[_Choice]
    reached: list[Sqnr]

    def safe(self, found: Sequence[tuple[_Trial, Gain]]) -> list[tuple[_Trial, Gain]]:
        """Return those trials after which no part has lost since the start."""
        return [
            (trial, gain)
            for trial, gain in found
            if Gain.of(_joined(trial.figures), self.start).safe
        ]


def recover(
    candidate: Candidate,
    disabled: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Candidate, list[Step], list[str]]:
    """Return the candidate with what helps, what was tried, and notes on what was not.

    Where something helps, all samples have been seen, and none is left to it.

    Args:
        candidate: The candidate, with all its samples; without ranges.
        disabled: Names of methods that are left out.
        progress: Called with (methods tried, methods in all).
    """
    methods = [
        method
        for method in RECOVERIES
        if method.name not in disabled
        and not (method.chooses_ranges and "int8" not in candidate.precisions)
    ]
    effort = Effort.of(candidate.graph)
    folds = _folds(candidate, effort)
    if not folds:
        return candidate, [], []
    start = _joined(fold.figures for fold in folds)
    steps: list[Step] = []
    recipe: list[_Choice] = []
    reached: list[Sqnr] = []
    for count, method in enumerate(methods, 1):
        step, folds = _applied(method, folds, _Found(start, recipe, reached), effort)
        steps += [] if step is None else [step]
        if progress is not None:
            progress(count, len(methods))
    tries = len({step.name for step in steps})  # what is idle cannot gain by chance
    while reached and not _enough(Gain.of(reached[-1], start), recipe, tries, candidate.loops):
        del recipe[-1], reached[-1]
    notes = effort.note(candidate.graph)
    if not recipe:
        return candidate, [replace(step, kept=False) for step in steps], notes
    names = {choice.method.name for choice in recipe}
    known = len(folds[0].candidate.feeds)
    del folds  # they may hold as many weights again, each
    steps = [replace(step, kept=step.kept and step.name in names) for step in steps]
    return _anew(candidate, recipe, known), steps, notes


def _enough(gain: Gain, recipe: Sequence[_Choice], tries: int, loops: bool) -> bool:
    """Tell whether what a recipe gains is enough to keep it."""
    insures = loops and all(choice.method.worth_db < 0 for choice in recipe)
    return gain.proven(tries) or (insures and gain.spares and gain.total >= gain.error)


def _anew(candidate: Candidate, recipe: Sequence[_Choice], known: int) -> Candidate:
    """Make of all samples what was chosen with as many as are known."""
    for choice in recipe:
        candidate = choice.made(candidate)
    more = float(np.log2(len(candidate.feeds) / max(1, known)))
    calibrator = with_margin(candidate.calibrator, more)
    candidate = replace(candidate, calibrator=calibrator, ranges={}).ready()
    return replace(candidate, feeds=[]) if candidate.seen else candidate


def _folds(candidate: Candidate, effort: Effort) -> list[_Fold]:
    """Return the folds, every third or fourth sample in one; of very few each in one of its own.

    Each sample is seen once: what a fold's candidate knows is joined from what the others hold.
    """
    few = _few(candidate)
    large = len(few) < min(_SAMPLES, len(candidate.feeds)) or effort.left < _AMPLE
    # Of a loop what is seen of its extremes counts most, and more folds leave more of it to each.
    fewer = len(few) >= _MANY and not large and not candidate.loops
    count = min(_FOLDS, len(few)) - fewer
    if count < 2:
        return []
    evaluator = Evaluator(candidate.graph, few)
    if not evaluator.outputs:
        return []
    shares = [replace(candidate, feeds=few[place::count]).shown() for place in range(count)]
    folds = []
    for place in range(count // 2 if large else count):
        known = [feed for index, feed in enumerate(few) if index % count != place]
        others = [share for index, share in enumerate(shares) if index != place]
        joined = HistogramObserver.joined
        seen = {index: joined([share[index] for share in others]) for index in shares[0]}
        made = replace(candidate, feeds=known, seen=seen).calibrated()
        unseen = evaluator.on(slice(place, None, count))
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
    for part in method.parts(folds[0].candidate) if isinstance(method, Clipping) else (method,):
        trials = _trials(part, folds, effort)
        if not trials:
            continue
        found = [(trial, trial.gain(folds)) for trial in trials]
        whole = [pair for pair in found if len(pair[0].figures) == len(folds)]
        gains.append(max(gain.total for _, gain in whole or found))
        loops = folds[0].candidate.loops
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
        for place, candidate in enumerate(islice(_proposed(method, fold.candidate), last)):
            if number and place not in going:
                continue
            effort.left -= 1
            made = _measured(fold.evaluator, candidate)
            if made is None:
                trials.pop(place, None)
                continue
            if place not in trials:
                choice = _Choice(method, place, made[0].calibrator)
                trials[place] = _Trial(choice)
            trials[place].add(*made, fold)
            del candidate, made  # or they would be held while the next one is made
    return list(trials.values())


def _going(
    method: Recovery, trials: Mapping[int, _Trial], folds: Sequence[_Fold], number: int
) -> set[int]:
    """Return the places of the candidates that are tried in one more fold.

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


def _proposed(method: Recovery, candidate: Candidate) -> Iterator[Candidate]:
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            yield from method.candidates(candidate)
    except (RuntimeError, InvalidModel, np.linalg.LinAlgError):
        return


def _measured(evaluator: Evaluator, candidate: Candidate) -> tuple[Candidate, Sqnr] | None:
    """Return a candidate with its ranges, and its figures; ``None`` where it does not run."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            ready = candidate.ready()
            return ready, evaluator.measure(ready)
    except (RuntimeError, InvalidModel, np.linalg.LinAlgError):
        return None


def _joined(figures: Iterable[Sqnr]) -> Sqnr:
    return functools.reduce(Sqnr.join, figures)


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


def _few(candidate: Candidate) -> Sequence[Sequence[Array]]:
    """Return the samples that are used, evenly spread."""
    graph = candidate.graph
    size = sum(int(np.prod(graph.shape(index))) for index in graph.activations())
    count = min(_SAMPLES, max(_LEAST, _VALUES // max(size, 1)))
    step = max(1.0, len(candidate.feeds) / count)
    places = np.arange(0, len(candidate.feeds), step).astype(int)
    return [candidate.feeds[place] for place in places.tolist()]
