"""Parity as Markdown, for a pull request or the summary of a CI step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgeconv.core.visible import visible
from edgeconv.metrics.report import ParityReport, StageParity
from edgeconv.reports.headline import verdict_line
from edgeconv.reports.notes import notes
from edgeconv.reports.rows import COLUMNS, stage_rows
from edgeconv.reports.words import advice, format_db, set_words, worst_part

_MOST_LAYERS = 5
# An option, with its value if that is quoted or no plain word.
_OPTION = re.compile(
    r"((?<!\S)--[a-z][a-z0-9-]*(?:[ =](?:'[^']*'|[^\s,;()']*[^\s,;:()'a-z-][^\s,;()']*))?)"
)
_MARKS = {"pass": "✅ pass", "fail": "❌ fail", "skipped": "⚪ skipped"}


def render_markdown(manifest: Mapping[str, Any], parity: ParityReport) -> str:
    """Return the report as GitHub's Markdown; what comes from the model is escaped."""
    lines = [f"### {_text(verdict_line(manifest, parity))}", ""]
    rows = [
        [_code(row["stage"]), *(row[name] for name in COLUMNS[1:-1]), _mark(row["parity"])]
        for row in stage_rows(manifest, parity)
    ]
    lines += _table(COLUMNS, rows)
    lines += _outputs(parity)
    for stage in parity.stages:
        lines += [*_layers(stage), *_advice(stage)]
    found = notes(manifest, parity)
    if found:
        lines += ["", *(f"- {_text(note)}" for note in found)]
    kind = "generated" if parity.generated else "given"
    lines += ["", f"Reference: {_text(parity.reference)}, {parity.samples} {kind} samples."]
    return visible("\n".join(lines) + "\n")


def _outputs(parity: ParityReport) -> list[str]:
    """Return the worst part of each stage, and how its sets of rows agree."""
    lines = []
    for stage in parity.stages:
        worst = worst_part(stage.outputs)
        lines += [f"- Worst part of {_code(stage.stage)}: {_text(worst)}"] * bool(worst)
        lines += [f"- {_code(stage.stage)}: {_text(w)}" for w in set_words(stage.outputs)]
    return ["", *lines] if lines else []


def _layers(stage: StageParity) -> list[str]:
    layers = stage.layers.worst if stage.layers else ()
    if not stage.failed or not layers:
        return []
    rows = [
        [
            _code(layer.name),
            _code(layer.op),
            format_db(layer.here_db),
            format_db(layer.carried_db),
            _code(layer.module) if layer.module else "",
            _code(layer.source) if layer.source else "",
        ]
        for layer in layers[:_MOST_LAYERS]
    ]
    head = ("layer", "op", "made here, dB", "carried, dB", "module", "source")
    return ["", f"Worst layers of {_code(stage.stage)}:", "", *_table(head, rows)]


def _advice(stage: StageParity) -> list[str]:
    """Return the next steps that were tried."""
    lines = [
        f"- {_code(layer.name)} in {_code(stage.stage)}: {_text(advice(layer))}"
        for layer in (stage.layers.worst if stage.layers else ())
        if layer.gain_db is not None
    ]
    return ["", *lines] if lines else []


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _mark(status: str) -> str:
    return _MARKS.get(status) or _text(status)


def _text(text: str) -> str:
    """Escape what Markdown or HTML would take for markup; options stand as code, to be pasted."""
    flat = " ".join(text.split())
    parts = _OPTION.split(flat)
    return "".join(_code(part) if place % 2 else _plain(part) for place, part in enumerate(parts))


def _plain(text: str) -> str:
    escaped = re.sub(r"([\\`*_{}\[\]|#~])", r"\\\1", text)
    escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # GitHub makes links of addresses and mentions of names; an empty comment keeps it from that.
    return re.sub(r"@|://|\bwww\.", lambda found: f"{found[0][0]}<!-- -->{found[0][1:]}", escaped)


def _code(text: str) -> str:
    """Return a code span that nothing in the text ends, in a table neither (GFM 4.10, 6.1)."""
    flat = " ".join(text.split())
    fence = "`" * (max(map(len, re.findall("`+", flat)), default=0) + 1)
    space = " " * (len(fence) > 1)
    return f"{fence}{space}{flat}{space}{fence}".replace("|", "\\|")
