"""The worst part of what a stage computed, as ``parity.json`` has it, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgeconv.metrics.sums import MAX_DB

Entry = Mapping[str, Any]
"""Figures of an output or of a part of it."""


def format_db(value: float | None) -> str:
    """Return decibels; what is beyond all telling is ``exact``."""
    if value is None:
        return "-"
    return "exact" if value >= MAX_DB else f"{value:.1f}"


def entries(outputs: Sequence[Entry]) -> Iterator[tuple[str, Entry]]:
    """Yield each output and each part that has a scale, with its place in words.

    Args:
        outputs: ``outputs`` of a stage.
    """
    for output in outputs:
        judged = output.get("as_set") or output
        name = f"{output['name']} as a set" if judged is not output else str(output["name"])
        yield name, judged
        for part in judged.get("parts", ()):
            if not part.get("note"):
                yield f"{name}, {part['name']}", part


def lowest_db(outputs: Sequence[Entry]) -> float | None:
    """Return the SQNR of the worst part; ``None`` where there is none."""
    known = [entry["sqnr_db"] for _, entry in entries(outputs) if entry["sqnr_db"] is not None]
    return min(known, default=None)


def worst_part(outputs: Sequence[Entry]) -> str:
    """Return the worst part in words; ``""`` where no output has parts.

    ``output0, rows 4 to 83 (sigmoid): 0.0 dB, 1 of 3,214 values``
    """
    if not any(output.get("parts") for output in outputs):
        return ""
    known = [
        (place, entry)
        for place, entry in entries(outputs)
        if entry["sqnr_db"] is not None and entry.get("exact") is None and not entry.get("parts")
    ]
    if not known:
        return ""
    place, entry = min(known, key=lambda item: (not item[1].get("lost"), item[1]["sqnr_db"]))
    return f"{place}: {part_words(entry)}"


def set_words(outputs: Sequence[Entry]) -> list[str]:
    """Return how outputs agree whose rows an operator chose, as a set and in order.

    ``boxes, scores: rows of TopK as a set 132.1 dB, 100.0% of them the same; in order 2.5 dB``
    """
    found: dict[str, list[Entry]] = {}
    for output in outputs:
        if output.get("as_set"):
            names = sorted((output["name"], *output["as_set"].get("together", ())))
            found.setdefault(", ".join(names), []).append(output)
    return [
        f"{names}: rows of {items[0]['as_set']['chosen_by']} as a set "
        f"{format_db(_lowest(item['as_set'] for item in items))} dB, "
        f"{100 * items[0]['as_set']['rows']:.1f}% of them the same; "
        f"in order {format_db(_lowest(items))} dB"
        for names, items in found.items()
    ]


def _lowest(entries: Iterable[Entry]) -> float | None:
    """Return the lowest SQNR of real numbers; of whole ones only where there are no others."""
    known = [entry for entry in entries if entry["sqnr_db"] is not None]
    real = [entry["sqnr_db"] for entry in known if entry["exact"] is None]
    return min(real or [entry["sqnr_db"] for entry in known], default=None)


def part_words(entry: Entry) -> str:
    """Return decibels and distinct values: ``0.0 dB, 1 of 3,214 values``."""
    db = format_db(entry["sqnr_db"])
    words = db if db == "exact" else f"{db} dB"
    if entry.get("levels") is not None:
        words += f", {entry['levels']:,} of {entry['reference_levels']:,} values"
    return words
