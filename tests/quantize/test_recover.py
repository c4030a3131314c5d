"""How recovery judges: on samples that a draft has not seen, each of them once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from edgeconv import tflite
from edgeconv.quantize import recover
from edgeconv.quantize.calibrators import CALIBRATORS
from edgeconv.quantize.graph import Graph
from edgeconv.quantize.judge import Figures
from edgeconv.quantize.qparams import Range
from edgeconv.quantize.recovery.base import Draft
from edgeconv.quantize.recovery.headroom import Growing, eased


def wide(lab: Any, seed: int = 0) -> Draft:
    """Return a dense layer's draft, with ranges much wider than needed."""
    rng = np.random.default_rng(seed)
    model = lab.model()
    weight = model.constant(rng.standard_normal((4, 8)))
    artifact = lab.save(model, model.op("FULLY_CONNECTED", model.input(1, 8), weight, -1))
    feeds = [[rng.standard_normal((1, 8)).astype(np.float32)] for _ in range(16)]

    def ten_times(seen: Any) -> tuple[float, float]:
        low, high = CALIBRATORS["minmax"](seen)
        return 10 * low, 10 * high

    return Draft(Graph(tflite.load(artifact.path)), feeds, ten_times, ["int8"])


@dataclass(frozen=True)
class Scaled:
    """Proposes ranges that are multiplied with what a draft's samples lead to."""

    factor: Callable[[Draft], float]
    name: str = "scaled"
    worth_db: float = 0.1
    slack_db: float = 0.0
    chooses_ranges: bool = False

    def drafts(self, draft: Draft) -> Iterator[Draft]:
        """Yield one draft."""
        share = self.factor(draft)
        ranges = {
            index: Range(found.low * share, found.high * share)
            for index, found in draft.ranges.items()
        }
        yield replace(draft, ranges=ranges)


def tried(
    monkeypatch: pytest.MonkeyPatch, draft: Draft, factor: Callable[[Draft], float]
) -> recover.Step:
    monkeypatch.setattr(recover, "RECOVERIES", (Scaled(factor),))
    (step,) = recover.recover(draft)[1]
    return step


def test_what_helps_both_halves_is_kept(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    step = tried(monkeypatch, wide(lab), lambda _: 0.2)
    assert step.kept is True
    assert step.gain_db > 10


def test_what_helps_one_half_alone_is_dropped(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = wide(lab)
    first = id(draft.feeds[0])
    step = tried(monkeypatch, draft, lambda half: 0.2 if first in map(id, half.feeds) else 12.0)
    assert not step.kept


def test_what_ruins_few_samples_is_dropped(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Finer steps for most, but the largest one saturates, and its error is most of all there is.
    draft = wide(lab)
    feeds = [list(feed) for feed in draft.feeds]
    feeds[5] = [feeds[5][0] * 30]
    tight = replace(draft, feeds=feeds)
    assert not tried(monkeypatch, tight, lambda _: 0.01).kept


def test_the_samples_left_are_those_that_ranges_are_not_from(lab: Any) -> None:
    draft = wide(lab)
    found, _ = recover.recover(draft)
    left = set(map(id, found.feeds))
    assert left == {id(feed) for feed in draft.feeds[1::2]}


def test_scores_count_every_sample_once() -> None:
    shares = np.eye(1)
    first = Figures(np.array([[100.0, 100.0]]), np.array([[1.0, 1.0]]), shares)
    other = Figures(np.array([[100.0]]), np.array([[28.0]]), shares)
    both = first.join(other)
    assert first.score == pytest.approx(20)
    assert both.score == pytest.approx(10)
    assert both.each == pytest.approx([20, 20, 10 * np.log10(100 / 28)])


def test_scores_weigh_the_worst_output_as_much_as_all() -> None:
    power = np.array([[1000.0], [100.0], [10.0]])
    figures = Figures(power, np.ones((3, 1)), np.array([[1, 0, 0], [0, 0.5, 0.5]]))
    assert figures.score == pytest.approx((15 + (30 + 15) / 2) / 2)


def test_no_error_and_no_signal_have_finite_scores() -> None:
    power, noise = np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])
    assert Figures(power, noise, np.eye(2)).each == pytest.approx([0.0])


@dataclass(frozen=True)
class Roomy(Scaled):
    """Proposes a margin."""

    def drafts(self, draft: Draft) -> Iterator[Draft]:
        """Yield one draft."""
        growing = Growing(CALIBRATORS["minmax"], (3.0, 1.12))
        yield replace(draft, calibrator=growing).calibrated()


@pytest.mark.parametrize(("count", "doublings"), [(16, 2.0), (3, 3.0)])
def test_all_samples_need_less_room_than_half_of_them(
    lab: Any, monkeypatch: pytest.MonkeyPatch, count: int, doublings: float
) -> None:
    monkeypatch.setattr(recover, "RECOVERIES", (Roomy(lambda _: 1.0, worth_db=-100.0),))
    draft = wide(lab)
    found, (step,) = recover.recover(replace(draft, feeds=draft.feeds[:count]))
    assert step.kept
    assert isinstance(found.calibrator, Growing)
    assert found.calibrator.margin == (doublings, 1.12)


def test_other_calibrators_are_not_eased() -> None:
    assert eased(CALIBRATORS["mse"], 1.0) is CALIBRATORS["mse"]
    growing = eased(Growing(CALIBRATORS["mse"], (0.5, 1.0)), 1.0)
    assert isinstance(growing, Growing)
    assert growing.margin == (0.0, 1.0)
