"""The report for the terminal."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from edgeconv.metrics.layer_errors import LayerError
from edgeconv.metrics.layers_report import Trial
from edgeconv.metrics.report import ParityReport
from edgeconv.reports.headline import WIDTH, headline
from edgeconv.reports.notes import notes
from edgeconv.reports.rows import COLUMNS, stage_rows
from edgeconv.reports.words import advice, format_db, set_words, worst_part

__all__ = ["WIDTH", "explain", "render_text"]

_EXPLAINED = 5


def render_text(manifest: Mapping[str, Any], parity: ParityReport) -> str:
    """Return the report for the terminal: at most `WIDTH` columns, no colour, no final newline."""
    lines = [headline(manifest, parity), ""]
    lines += _table(stage_rows(manifest, parity))
    lines += _outputs(parity)
    lines += _correspondence(parity)
    for note in notes(manifest, parity):
        lines += ["", *_wrapped(note)]
    return "\n".join(lines)


def explain(manifest: Mapping[str, Any], parity: ParityReport) -> str:
    """Return where each stage lost accuracy, and what was tried against it, as text.

    Args:
        manifest: The content of ``manifest.json``.
        parity: The report.
    """
    lines: list[str] = []
    for stage in parity.stages:
        if stage.layers is None:
            continue
        worst = stage.layers.worst[:_EXPLAINED]
        if worst:
            rows = [_layer_row(layer) for layer in worst]
            lines += ["", f"worst layers of {stage.stage}, in dB made here and carried", ""]
            lines += _table(rows, tuple(rows[0]))
            for layer in worst:
                lines += _next(layer)
        lines += map(_trial, stage.layers.trials)
    for entry in manifest["stages"]:
        for step in entry.get("recovery", ()):
            verdict = "kept" if step["kept"] else "not worth it"
            lines.append(f"{entry['name']}: {step['name']} {step['gain_db']:+.1f} dB, {verdict}")
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH - 2, subsequent_indent="  ")


def _next(layer: LayerError) -> list[str]:
    if layer.gain_db is None:
        return []
    text = f"{_name(layer)}: {advice(layer)}"
    return textwrap.wrap(text, WIDTH - 2, initial_indent="  ", subsequent_indent="    ")


def _trial(trial: Trial) -> str:
    option = _ending(shlex.join(trial.options), 44)
    if trial.failed:
        return f"tried {option}: {trial.failed}"[:WIDTH]
    if trial.gain_db is None:
        return f"tried {option}: its outputs cannot be compared"
    holds = "passes" if trial.passes else "not enough"
    return f"tried {option}: {trial.gain_db:+.1f} dB, {holds}"


def _layer_row(layer: LayerError) -> dict[str, str]:
    return {
        "layer": _ending(_name(layer), 23),
        "op": _ending(layer.op, 17),
        "here": format_db(layer.here_db),
        "carried": format_db(layer.carried_db),
        "module": _ending(layer.module, 20),
    }


def _name(layer: LayerError) -> str:
    return layer.onnx_node or layer.name.partition(";")[0]


def _ending(text: str, width: int) -> str:
    """Return the end of a name, which tells it from others; all of it where it fits."""
    return text if len(text) <= width else f"...{text[3 - width :]}"


def _correspondence(parity: ParityReport) -> list[str]:
    """Return which tensors of two models were taken for the same, and why."""
    matches = parity.correspondence or ()
    texts = [f"{item.kind} {item.first} = {item.second}: {item.why}" for item in matches]
    return [""] * bool(texts) + [line for text in texts for line in _wrapped(text)]


def _outputs(parity: ParityReport) -> list[str]:
    """Return the last stage's figures per output, where there are several, and its worst part."""
    if not parity.stages:
        return []
    stage = parity.stages[-1]
    lines: list[str] = []
    if len(stage.outputs) > 1:
        figures = (f"{item.name} {format_db(item.sqnr_db)}" for item in stage.outputs)
        lines += ["", *_wrapped(f"{stage.stage}, SQNR dB of each output: {', '.join(figures)}")]
    worst = worst_part(stage.outputs)
    told = [f"worst part: {worst}"] if worst else []
    for words in (*told, *set_words(stage.outputs)):
        lines += ["", *_wrapped(f"{stage.stage}, {words}")]
    return lines


def _table(rows: Sequence[Mapping[str, str]], columns: Sequence[str] = COLUMNS) -> list[str]:
    cells = [tuple(columns), *(tuple(row[name] for name in columns) for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    lines = []
    for row in cells:
        first, *middle = (
            text.ljust(width) if index in (0, len(row) - 1) else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join((first, *middle)).rstrip())
    return [lines[0], "-" * max(len(line) for line in lines), *lines[1:]]
