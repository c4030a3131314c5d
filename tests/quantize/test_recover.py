"""How recovery judges: on samples that a candidate has not seen, each of them once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from edgeconv.quantize.params.qparams import Range
from edgeconv.quantize.recovery import effort, recover
from edgeconv.quantize.recovery.base import Candidate
from edgeconv.quantize.recovery.evaluator import Evaluator, Sqnr
from edgeconv.quantize.recovery.evidence import Gain, student
from edgeconv.quantize.recovery.headroom import Growing, with_margin
from edgeconv.quantize.statistics.calibrators import CALIBRATORS
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph


def wide(lab: Any, seed: int = 0) -> Candidate:
    """Return a dense layer's candidate, with ranges much wider than needed."""
    rng = np.random.default_rng(seed)
    model = lab.model()
    weight = model.constant(rng.standard_normal((4, 8)))
    artifact = lab.save(model, model.op("FULLY_CONNECTED", model.input(1, 8), weight, -1))
    feeds = [[rng.standard_normal((1, 8)).astype(np.float32)] for _ in range(16)]

    def ten_times(seen: Any) -> tuple[float, float]:
        low, high = CALIBRATORS["minmax"](seen)
        return 10 * low, 10 * high

    return Candidate(Graph(tflite.load(artifact.path)), feeds, ten_times, ["int8"])


def bounded(candidate: Candidate) -> Candidate:
    """Return a candidate with samples that all reach as far."""
    return replace(candidate, feeds=[[np.clip(feed[0], -0.5, 0.5)] for feed in candidate.feeds])


@dataclass(frozen=True)
class Idle:
    """Proposes nothing."""

    name: str
    worth_db: float = 0.1
    slack_db: float = 0.0
    chooses_ranges: bool = False

    def candidates(self, candidate: Candidate) -> Iterator[Candidate]:
        """Yield nothing."""
        del candidate
        yield from ()


@dataclass(frozen=True)
class Scaled:
    """Proposes ranges that are multiplied with what a candidate's samples lead to."""

    factor: Callable[[Candidate], float]
    name: str = "scaled"
    worth_db: float = 0.1
    slack_db: float = 0.0
    chooses_ranges: bool = False

    def candidates(self, candidate: Candidate) -> Iterator[Candidate]:
        """Yield one candidate."""
        share = self.factor(candidate)
        ranges = {
            index: Range(found.low * share, found.high * share)
            for index, found in candidate.ranges.items()
        }
        yield replace(candidate, ranges=ranges)


def steady(share: float, name: str) -> Scaled:
    """Return a method that multiplies ranges by the same whatever the samples."""
    return Scaled(lambda _: share, name, 0.0)


def tried(
    monkeypatch: pytest.MonkeyPatch, candidate: Candidate, factor: Callable[[Candidate], float]
) -> recover.Step:
    monkeypatch.setattr(recover, "RECOVERIES", (Scaled(factor),))
    (step,) = recover.recover(candidate)[1]
    return step


def test_what_helps_both_halves_is_kept(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    step = tried(monkeypatch, wide(lab), lambda _: 0.2)
    assert step.kept is True
    assert step.gain_db > 10


def test_what_helps_one_half_alone_is_dropped(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = wide(lab)
    first = id(candidate.feeds[0])
    step = tried(monkeypatch, candidate, lambda half: 0.2 if first in map(id, half.feeds) else 12.0)
    assert not step.kept


def test_what_ruins_few_samples_is_dropped(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Finer steps for most, but the largest one saturates, and its error is most of all there is.
    candidate = wide(lab)
    feeds = [list(feed) for feed in candidate.feeds]
    feeds[5] = [feeds[5][0] * 30]
    tight = replace(candidate, feeds=feeds)
    assert not tried(monkeypatch, tight, lambda _: 0.01).kept


def test_where_nothing_helps_the_draft_is_as_it_was(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recover, "RECOVERIES", (Scaled(lambda _: 2.0),))
    candidate = wide(lab)
    found, (step,), _ = recover.recover(candidate)
    assert not step.kept
    assert found is candidate


def test_what_is_kept_has_seen_all_samples(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover, "RECOVERIES", (Roomy(lambda _: 1.0),))
    candidate = bounded(wide(lab))
    found, (step,), _ = recover.recover(candidate)
    assert step.kept
    assert not found.feeds
    (seen,) = (found.seen[index] for index in candidate.graph.inputs)
    assert sorted(seen.highs) == sorted(float(feed[0].max()) for feed in candidate.feeds)


def test_what_few_samples_show_by_chance_is_not_kept(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each of these changes little but the rounding, and half of them seem to gain something.
    methods = tuple(steady(1 + 0.003 * count, f"scaled-{count}") for count in range(8))
    monkeypatch.setattr(recover, "RECOVERIES", methods)
    kept, gains = [], []
    for seed in range(10):
        candidate = wide(lab, seed)  # far from saturation, so that there is nothing to win but luck
        _, steps, _ = recover.recover(replace(candidate, feeds=candidate.feeds[:6]))
        kept.append(any(step.kept for step in steps))
        gains.append(max(step.gain_db for step in steps))
    assert sum(gain > 0.1 for gain in gains) >= 3
    assert sum(kept) <= 1


def test_methods_that_are_idle_are_no_tries(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def proven(_: Gain, tries: int) -> bool:
        counted.append(tries)
        return True

    idle = [Idle(name) for name in ("one", "two", "three")]
    monkeypatch.setattr(recover, "RECOVERIES", (*idle, Scaled(lambda _: 0.2)))
    monkeypatch.setattr(Gain, "proven", proven)
    _, steps, _ = recover.recover(wide(lab))
    assert [step.name for step in steps] == ["scaled"]
    assert counted == [1]


def test_scores_count_every_sample_once() -> None:
    shares = np.eye(1)
    first = Sqnr(np.array([[100.0, 100.0]]), np.array([[1.0, 1.0]]), shares)
    other = Sqnr(np.array([[100.0]]), np.array([[28.0]]), shares)
    both = first.join(other)
    assert first.score == pytest.approx(20)
    assert both.score == pytest.approx(10)
    assert both.each == pytest.approx([20, 20, 10 * np.log10(100 / 28)])


def test_scores_weigh_the_worst_part_as_much_as_all_outputs() -> None:
    power = np.array([[1000.0], [100.0], [10.0]])
    figures = Sqnr(power, np.ones((3, 1)), np.array([[1, 0, 0], [0, 0.5, 0.5]]))
    assert figures.score == pytest.approx((10 + (30 + 15) / 2) / 2)


def test_no_error_and_no_signal_have_finite_scores() -> None:
    power, noise = np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])
    assert Sqnr(power, noise, np.eye(2)).each == pytest.approx([0.0])


@dataclass(frozen=True)
class Roomy(Scaled):
    """Proposes a margin."""

    def candidates(self, candidate: Candidate) -> Iterator[Candidate]:
        """Yield one candidate."""
        growing = Growing(CALIBRATORS["minmax"], (3.0, 1.12))
        yield replace(candidate, calibrator=growing).calibrated()


@pytest.mark.parametrize(("count", "known"), [(16, 12), (8, 6)])
def test_all_samples_need_less_room_than_some_of_them(
    lab: Any, monkeypatch: pytest.MonkeyPatch, count: int, known: int
) -> None:
    monkeypatch.setattr(recover, "RECOVERIES", (Roomy(lambda _: 1.0, worth_db=-100.0),))
    candidate = bounded(wide(lab))
    found, (step,), _ = recover.recover(replace(candidate, feeds=candidate.feeds[:count]))
    assert step.kept
    assert isinstance(found.calibrator, Growing)
    assert found.calibrator.margin[0] == pytest.approx(3 - np.log2(count / known))
    assert found.calibrator.margin[1] == 1.12


def test_other_calibrators_are_not_eased() -> None:
    assert with_margin(CALIBRATORS["mse"], 1.0) is CALIBRATORS["mse"]
    growing = with_margin(Growing(CALIBRATORS["mse"], (0.5, 1.0)), 1.0)
    assert isinstance(growing, Growing)
    assert growing.margin == (0.0, 1.0)


def test_a_gain_is_as_sure_as_its_samples_agree() -> None:
    shares = np.eye(1)
    before = Sqnr(np.full((1, 8), 100.0), np.full((1, 8), 2.0), shares)
    steady = Sqnr(before.power, np.array([[1.0, 1.1, 0.9, 1.0, 1.2, 0.8, 1.0, 1.0]]), shares)
    assert Gain.of(steady, before).proven(10)
    # The same noise altogether, but the gain is one sample's alone, and others lose.
    moved = np.array([[2.0] * 7 + [16.0]])
    lucky = Sqnr(before.power, np.array([[2.2] * 7 + [1.0]]), shares)
    chance = Gain.of(lucky, Sqnr(before.power, moved, shares))
    assert chance.total > 2
    assert not chance.proven(10)
    assert not chance.likely


def test_no_part_may_lose_for_others() -> None:
    shares = np.array([[0.5, 0.5]])
    power = np.full((2, 8), 100.0)
    before = Sqnr(power, np.array([[8.0] * 8, [1.0] * 8]), shares)
    gain = Gain.of(Sqnr(power, np.array([[1.0] * 8, [1.3] * 8]), shares), before)
    assert gain.total > 3
    assert gain.parts.min() == pytest.approx(-10 * np.log10(1.3))
    assert not gain.likely
    assert not gain.proven(1)


@pytest.mark.parametrize(
    ("share", "freedom", "value"),
    [(0.95, 7, 1.895), (0.995, 31, 2.744), (0.995, 7, 3.499), (0.995, 3, 5.841), (0.99, 15, 2.602)],
)
def test_quantiles_of_students_distribution(share: float, freedom: int, value: float) -> None:
    assert student(share, freedom) == pytest.approx(value, rel=0.03)


def test_the_judge_sees_parts(lab: Any) -> None:
    model = lab.model()
    source = model.input(1, 64)
    boxes = model.op("MUL", source, model.constant(300.0))
    joined = model.op("CONCATENATION", boxes, model.op("LOGISTIC", source), axis=1)
    artifact = lab.save(model, model.op("RESHAPE", joined, model.constant([1, 2, 64], "int32")))
    feeds = [[np.linspace(-2, 2, 64, dtype=np.float32).reshape(1, 64) + n] for n in range(8)]
    candidate = Candidate(
        Graph(tflite.load(artifact.path)), feeds, CALIBRATORS["minmax"], ["int8"] * 4
    )
    figures = Evaluator(candidate.graph, feeds).measure(candidate.ready())
    # One scale for both: the scores are lost, which the whole output would not show.
    assert figures.shares.tolist() == [[0.5, 0.5]]
    assert figures.parts[0] > 35
    assert figures.parts[1] < 10
    assert figures.score < 20


def test_the_judge_sees_channels_of_different_range(lab: Any) -> None:
    model = lab.model()
    spread = np.repeat([100.0, 0.5], [4, 60])
    artifact = lab.save(model, model.op("MUL", model.input(1, 32, 64), model.constant(spread)))
    rng = np.random.default_rng(0)
    feeds = [[rng.standard_normal((1, 32, 64)).astype(np.float32)] for _ in range(8)]
    candidate = Candidate(Graph(tflite.load(artifact.path)), feeds, CALIBRATORS["minmax"], ["int8"])
    parts = Evaluator(candidate.graph, feeds).measure(candidate.ready()).parts
    assert len(parts) == 2
    assert parts.max() > 30 > 10 > parts.min()


def chain(lab: Any, layers: int) -> Candidate:
    """Return the candidate of many small layers, one behind the other."""
    rng = np.random.default_rng(1)
    model = lab.model()
    value = model.input(1, 8)
    for _ in range(layers):
        weight = model.constant(rng.standard_normal((8, 8)) / 2)
        value = model.op("ADD", value, model.op("FULLY_CONNECTED", value, weight, -1))
    artifact = lab.save(model, value)
    feeds = [[rng.standard_normal((1, 8)).astype(np.float32)] for _ in range(16)]
    graph = Graph(tflite.load(artifact.path))
    return Candidate(graph, feeds, CALIBRATORS["minmax"], ["int8"] * len(graph.operators))


@pytest.mark.parametrize(("layers", "most"), [(1, 70), (8, 16)])
def test_effort_is_bounded_by_the_number_of_operators(
    lab: Any, monkeypatch: pytest.MonkeyPatch, layers: int, most: int
) -> None:
    monkeypatch.setattr(effort, "_BUILT", 160)
    built = []
    measure = Evaluator.measure

    def counted(self: Evaluator, candidate: Candidate) -> Sqnr:
        built.append(candidate)
        return measure(self, candidate)

    monkeypatch.setattr(Evaluator, "measure", counted)
    candidate = chain(lab, layers)
    _, steps, notes = recover.recover(candidate)
    # What has begun is finished: at most four candidates in two folds.
    assert 2 < len(built) <= max(12, 160 // (2 * layers)) + 8
    assert len(built) <= most + 8
    assert bool(notes) == (layers == 8)
    if notes:
        assert "16 operators" in notes[0]
        assert "clipping" in notes[0]
        assert not {"clipping"} & {step.name for step in steps}


def test_drafts_that_lag_behind_are_not_tried_in_all_folds(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[float] = []

    @dataclass(frozen=True)
    class Several(Scaled):
        def candidates(self, candidate: Candidate) -> Iterator[Candidate]:
            for share in (0.9, 0.3, 0.2, 0.6):
                measured.append(share)
                yield from steady(share, "one").candidates(candidate)

    monkeypatch.setattr(recover, "RECOVERIES", (Several(lambda _: 1.0),))
    found, (step,), _ = recover.recover(wide(lab))
    assert step.kept
    # Four folds and once more of all samples; the second best goes on for one fold alone.
    assert [measured.count(share) for share in (0.9, 0.3, 0.2, 0.6)] == [5, 5, 2, 1]
    assert found.ranges


def test_chances_are_judged_as_far_as_they_show(lab: Any) -> None:
    model = lab.model()
    logits = model.op("ADD", model.input(1, 4), model.constant([0.5, 0.25, 0.0, -0.5]))
    artifact = lab.save(model, model.op("SOFTMAX", logits, beta=1.0))
    rows = ([9.0, 0, 0, 1], [40.0, 0, -3, 2], [0.5, 0, 0.2, -1], [25.0, 0, 0, 0])
    feeds = [[np.array([row], np.float32)] for row in rows]
    candidate = Candidate(
        Graph(tflite.load(artifact.path)), feeds, CALIBRATORS["minmax"], ["int8"] * 2
    )
    candidate = candidate.ready()
    wide_, narrow = (
        Evaluator(candidate.graph, feeds).measure(
            replace(candidate, ranges=dict.fromkeys(candidate.ranges, Range(-4.0, high)))
        )
        for high in (40.0, 10.0)
    )
    # Both see the output too, which must not lose, and counts nothing.
    assert narrow.shares.tolist() == [[1.0, 0.0]]
    assert narrow.shown.tolist() == [False, True]
    # What saturates beyond all doubt costs nothing, and finer steps show where there is doubt.
    assert (narrow.parts > wide_.parts + 3).all()
    assert narrow.score == narrow.parts[0]


def test_an_output_must_not_lose_however_much_it_differs() -> None:
    power = np.full((3, 8), 100.0)
    shares = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    before = Sqnr(power, np.ones((3, 8)), shares, frozenset({1}))
    noise = np.ones((3, 8))
    noise[0] = 0.25
    noise[1] = noise[2] = [2.2, 0.2, 1.9, 0.3, 1.8, 0.4, 0.1, 0.6]
    gain = Gain.of(Sqnr(power, noise, shares, frozenset({1})), before)
    assert (gain.parts > 0).all()
    assert gain.errors[2] > 1
    assert gain.proven(1)
    assert not gain.safe
    inner = replace(gain, shown=np.array([True, False, False]))
    assert inner.safe
