"""Charts as SVG, which is part of the page and scales with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

from edgeconv.metrics.layer_errors import LayerError
from edgeconv.metrics.report_parts import Histogram

_WIDTH, _HEIGHT = 1000, 200
_HIGHEST_DB = 150.0
_STEPS = (5, 10, 20, 30, 50)
_MANY = 120
"""More layers than that have small dots."""

# A layer that comes that close to the stage's gate, alone, is marked.
_MARGIN_DB = 10.0

Place = Callable[[float, float], tuple[float, float]]
"""Returns where a layer, by its number, and a figure in dB are in the drawing."""


def layer_chart(layers: Sequence[LayerError], limit: float | None, *, passed: bool = False) -> str:
    """Return the error along the depth of the network, both figures; ``""`` without layers.

    The drawing is stretched to the width that there is, in both directions by itself; dots and
    words keep their size, so that a phone shows them as a desktop does.

    Args:
        layers: The layers, in the order of the network.
        limit: SQNR that the stage's outputs must have, drawn as a line; ``None`` for none.
        passed: Whether the stage passed; then no layer is marked.
    """
    shown = [item for item in layers if item.carried_db is not None]
    if not shown:
        return ""
    values = [
        value
        for item in shown
        for value in (_shown(item.here_db), _shown(item.carried_db), limit)
        if value is not None
    ]
    low, high = _bounds(values)
    step = next((s for s in _STEPS if (high - low) / s <= 6), _STEPS[-1])
    low, high = low // step * step, -(-high // step) * step

    def place(index: float, value: float) -> tuple[float, float]:
        across = _WIDTH * (index + 0.5) / len(shown)
        return round(across, 1), round(_HEIGHT * (high - value) / (high - low), 1)

    lines, words = _axis(low, high, step, limit, place)
    carried = (place(i, _within(item.carried_db or 0.0)) for i, item in enumerate(shown))
    lines.append(
        '<polyline class="carried" points="' + " ".join(f"{x},{y}" for x, y in carried) + '"/>'
    )
    bad = -400.0 if passed or limit is None else limit + _MARGIN_DB
    lines += _dots(shown, bad, place)
    many = " many" if len(shown) > _MANY else ""
    return (
        f'<div class="chart{many}" role="img" aria-label="Error along the depth of the network">'
        f'<span class="unit">SQNR, dB</span><div class="plot">'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none">{"".join(lines)}</svg>'
        f"{''.join(words)}{_worst(shown, bad, place)}</div>"
        f'<div class="ends"><span>first layer</span><span>layer {len(shown)}</span></div></div>'
    )


def _axis(
    low: float, high: float, step: float, limit: float | None, place: Place
) -> tuple[list[str], list[str]]:
    """Return the lines of the axis and of the gate, and the words beside them."""
    lines, words = [], []
    value = low
    while value <= high:
        y = place(0, value)[1]
        lines.append(f'<path class="grid" d="M0 {y}H{_WIDTH}"/>')
        words.append(f'<span class="tick" style="top:{_share(y)}%">{value:.0f}</span>')
        value += step
    if limit is not None:
        y = place(0, limit)[1]
        lines.append(f'<path class="limit" d="M0 {y}H{_WIDTH}"/>')
        words.append(f'<span class="limit" style="top:{_share(y)}%">gate</span>')
    return lines, words


def _dots(shown: Sequence[LayerError], bad: float, place: Place) -> list[str]:
    dots = []
    for index, item in enumerate(shown):
        value = _shown(item.here_db)
        if value is not None:
            x, y = place(index, value)
            kind = "here bad" if value < bad else "here"
            # A line of no length: only its round caps are drawn, which are not stretched.
            dots.append(f'<path class="{kind}" d="M{x} {y}h0"><title>{_words(item)}</title></path>')
    return dots


def _worst(shown: Sequence[LayerError], bad: float, place: Place) -> str:
    """Return the name of the worst layer beside its dot, where it is marked."""
    figures = [(_shown(item.here_db), index) for index, item in enumerate(shown)]
    known = [(value, index) for value, index in figures if value is not None]
    value, index = min(known, default=(bad, 0))
    if value >= bad:
        return ""
    x, y = place(index, value)
    far = x > _WIDTH / 2
    side = f"right:{_share(_WIDTH - x, _WIDTH)}%" if far else f"left:{_share(x, _WIDTH)}%"
    name = escape(shown[index].name)
    return f'<span class="worst" style="top:{_share(y)}%;{side}">{name}</span>'


def _share(place: float, whole: float = _HEIGHT) -> str:
    return f"{100 * place / whole:.1f}"


def histogram_chart(histogram: Histogram) -> str:
    """Return the absolute errors of one output by their power of ten."""
    counts = histogram.counts
    largest = max(counts, default=0) or 1
    width = 300 / len(counts)
    parts = []
    for number, (exponent, count) in enumerate(zip(histogram.exponents, counts, strict=True)):
        height = 0 if count == 0 else max(2.0, 90 * count / largest)
        x = number * width
        parts.append(
            f'<rect class="bar" x="{x + 1:.1f}" y="{96 - height:.1f}" width="{width - 2:.1f}" '
            f'height="{height:.1f}"><title>1e{exponent}: {count}</title></rect>'
        )
        if exponent % 3 == 0:
            parts.append(
                f'<text x="{x + width / 2:.1f}" y="112" text-anchor="middle">1e{exponent}</text>'
            )
    label = escape(f"Absolute errors of {histogram.name}")
    return f'<svg viewBox="0 0 300 118" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def score_chart(name: str, scores: Mapping[str, Sequence[float]]) -> str:
    """Return bars from zero, below each other.

    Args:
        name: Of the output.
        scores: By class the reference's score and, where it is known, the stage's.
    """
    values = [value for pair in scores.values() for value in pair]
    low, high = min(0.0, *values), max(0.0, *values)
    left, width, step = 62, 150, 30

    def place(value: float) -> float:
        return left + width * (value - low) / max(high - low, 1e-12)

    parts = []
    for number, (label, pair) in enumerate(scores.items()):
        top = number * step + 4
        parts.append(f'<text x="0" y="{top + 15}">{escape(label)}</text>')
        for side, (kind, value) in enumerate(zip(("bar", "bar ours"), pair, strict=False)):
            ends = sorted((place(0), place(value)))
            y = top + 11 * side
            parts.append(
                f'<rect class="{kind}" x="{ends[0]:.1f}" y="{y}" '
                f'width="{max(1.0, ends[1] - ends[0]):.1f}" height="9"/>'
                f'<text x="{left + width + 6}" y="{y + 9}">{value:.3g}</text>'
            )
    title = escape(f"Largest scores of {name}")
    height = step * len(scores)
    return f'<svg viewBox="0 0 270 {height}" role="img" aria-label="{title}">{"".join(parts)}</svg>'


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = max(2.0, (high - low) * 0.05)
    return max(-60.0, low - margin), high + margin


def _shown(value: float | None) -> float | None:
    return None if value is None else _within(value)


def _within(value: float) -> float:
    """Return decibels that the drawing has room for."""
    return max(-60.0, min(_HIGHEST_DB, float(value)))


def _words(item: LayerError) -> str:
    here, carried = (
        "-" if value is None else f"{value:.1f}" for value in (item.here_db, item.carried_db)
    )
    text = f"{item.name} ({item.op}): here {here} dB, carried {carried} dB"
    return escape(f"{text}, {item.module}" if item.module else text)
