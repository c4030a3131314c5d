"""The words that all reports share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from edgeconv.metrics.figures import OutputFigures
from edgeconv.metrics.layer_errors import LayerError
from edgeconv.metrics.sums import MAX_DB


def format_db(value: float | None) -> str:
    """Return decibels; what is beyond all telling is ``exact``."""
    if value is None:
        return "-"
    return "exact" if value >= MAX_DB else f"{value:.1f}"


def format_bytes(count: int) -> str:
    """Return a size for people: ``12.3 MB``, in powers of 1000."""
    size, units = float(count), ["B", "kB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"


def advice(layer: LayerError) -> str:
    """Return the next step for a layer, with what it gained where it was tried; ``""`` for none."""
    if layer.gain_db is None:
        return layer.advice
    return f"{layer.advice} ({layer.gain_db:+.1f} dB on the worst output)"


def entries(outputs: Sequence[OutputFigures]) -> Iterator[tuple[str, OutputFigures]]:
    """Yield each output and each part that has a scale, with its place in words.

    Args:
        outputs: The outputs of a stage.
    """
    for output in outputs:
        judged = output.as_set or output
        name = f"{output.name} as a set" if judged is not output else output.name
        yield name, judged
        for part in judged.parts:
            if not part.note:
                yield f"{name}, {part.name}", part


def lowest_db(outputs: Sequence[OutputFigures]) -> float | None:
    """Return the SQNR of the worst part; ``None`` where there is none."""
    known = [entry.sqnr_db for _, entry in entries(outputs) if entry.sqnr_db is not None]
    return min(known, default=None)


def worst_part(outputs: Sequence[OutputFigures]) -> str:
    """Return the worst part in words; ``""`` where no output has parts.

    ``output0, rows 4 to 83 (sigmoid): 0.0 dB, 1 of 3,214 values``
    """
    if not any(output.parts for output in outputs):
        return ""
    known = [
        (not entry.lost, entry.sqnr_db, place, entry)
        for place, entry in entries(outputs)
        if entry.sqnr_db is not None and entry.exact is None and not entry.parts
    ]
    if not known:
        return ""
    _, _, place, worst = min(known, key=lambda item: item[:2])
    return f"{place}: {part_words(worst)}"


def set_words(outputs: Sequence[OutputFigures]) -> list[str]:
    """Return how outputs agree whose rows an operator chose, as a set and in order.

    ``boxes, scores: rows of TopK as a set 132.1 dB, 100.0% of them the same; in order 2.5 dB``
    """
    found: dict[str, list[tuple[OutputFigures, OutputFigures]]] = {}
    for output in outputs:
        if output.as_set is not None:
            names = sorted((output.name, *output.as_set.together))
            found.setdefault(", ".join(names), []).append((output, output.as_set))
    return [_set_words(names, items) for names, items in found.items()]


def _set_words(names: str, items: Sequence[tuple[OutputFigures, OutputFigures]]) -> str:
    first = items[0][1]
    return (
        f"{names}: rows of {first.chosen_by} as a set "
        f"{format_db(_lowest(rows for _, rows in items))} dB, "
        f"{100 * (first.rows or 0.0):.1f}% of them the same; "
        f"in order {format_db(_lowest(output for output, _ in items))} dB"
    )


def _lowest(entries: Iterable[OutputFigures]) -> float | None:
    """Return the lowest SQNR of real numbers; of whole ones only where there are no others."""
    known = [(entry.exact is not None, entry.sqnr_db) for entry in entries]
    real = [value for whole, value in known if value is not None and not whole]
    return min(real or [value for _, value in known if value is not None], default=None)


def part_words(entry: OutputFigures) -> str:
    """Return decibels and distinct values: ``0.0 dB, 1 of 3,214 values``."""
    db = format_db(entry.sqnr_db)
    words = db if db == "exact" else f"{db} dB"
    if entry.levels is not None and entry.reference_levels is not None:
        words += f", {entry.levels:,} of {entry.reference_levels:,} values"
    return words
