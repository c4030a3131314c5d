"""Charts as SVG text, which is part of the page and scales with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT = 960, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 8, 28, 26
_HIGHEST_DB = 150.0
_STEPS = (5, 10, 20, 30, 50)


def layer_chart(layers: Sequence[Mapping[str, Any]], limit: float | None) -> str:
    """Return the error along the depth of the network, both figures; ``""`` without layers.

    Args:
        layers: Entries of ``layers`` in ``parity.json``.
        limit: SQNR that the stage's outputs must have, drawn as a line; ``None`` for none.
    """
    shown = [item for item in layers if _db(item, "carried_db") is not None]
    if not shown:
        return ""
    values = [
        value
        for item in shown
        for value in (_db(item, "here_db"), _db(item, "carried_db"), limit)
        if value is not None
    ]
    low, high = _bounds(values)
    step = next((s for s in _STEPS if (high - low) / s <= 6), _STEPS[-1])
    low, high = low // step * step, -(-high // step) * step

    def place(index: int, value: float) -> tuple[float, float]:
        across = (_WIDTH - _LEFT - _RIGHT) * (index + 0.5) / len(shown)
        down = (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)
        return round(_LEFT + across, 1), round(_TOP + down, 1)

    parts = [*_axis(low, high, step), *_limit(limit, place)]
    carried = [place(i, _known(item, "carried_db")) for i, item in enumerate(shown)]
    parts.append(
        '<polyline class="carried" points="' + " ".join(f"{x},{y}" for x, y in carried) + '"/>'
    )
    radius = 4 if len(shown) <= 120 else 2
    for index, item in enumerate(shown):
        value = _db(item, "here_db")
        if value is None:
            continue
        x, y = place(index, value)
        blamed = " bad" if limit is not None and value < limit + 10 else ""
        parts.append(
            f'<circle class="here{blamed}" cx="{x}" cy="{y}" r="{radius}">'
            f"<title>{_words(item)}</title></circle>"
        )
    parts.append(
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">first layer</text>'
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">last layer</text>'
    )
    return _svg("Error along the depth of the network", parts)


def histogram_chart(histogram: Mapping[str, Any]) -> str:
    """Return the absolute errors of one output by their power of ten."""
    counts = histogram["counts"]
    largest = max(counts, default=0) or 1
    width = 300 / len(counts)
    parts = []
    for number, (exponent, count) in enumerate(zip(histogram["exponents"], counts, strict=True)):
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
    label = escape(f"Absolute errors of {histogram['name']}")
    return f'<svg viewBox="0 0 300 118" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _svg(label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="wide" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">' + "".join(parts) + "</svg>"
    )


def _axis(low: float, high: float, step: float) -> list[str]:
    parts = [f'<text x="{_LEFT + 4}" y="{_TOP - 9}">SQNR, dB</text>']
    value = low
    while value <= high:
        y = round(_TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low), 1)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.0f}</text>'
        )
        value += step
    return parts


def _limit(limit: float | None, place: Any) -> list[str]:
    if limit is None:
        return []
    y = place(0, limit)[1]
    return [
        f'<line class="limit" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>',
        f'<text class="limit" x="{_WIDTH - _RIGHT}" y="{y - 5}" text-anchor="end">gate</text>',
    ]


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = max(2.0, (high - low) * 0.05)
    return max(-60.0, low - margin), high + margin


def _db(item: Mapping[str, Any], name: str) -> float | None:
    value = item.get(name)
    return None if value is None else max(-60.0, min(_HIGHEST_DB, float(value)))


def _known(item: Mapping[str, Any], name: str) -> float:
    value = _db(item, name)
    assert value is not None
    return value


def _words(item: Mapping[str, Any]) -> str:
    here = "-" if item["here_db"] is None else f"{item['here_db']:.1f}"
    text = f"{item['name']} ({item['op']}): here {here} dB, carried {item['carried_db']:.1f} dB"
    return escape(f"{text}, {item['module']}" if item.get("module") else text)
