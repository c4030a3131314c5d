"""The report for the terminal, and the words that all reports share."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgeconv.metrics.worst import format_db, lowest_db, set_words, worst_part
from edgeconv.reports.headline import WIDTH, headline, is_uncalibrated, verdict_line

__all__ = [
    "WIDTH",
    "advice",
    "explain",
    "format_bytes",
    "format_db",
    "headline",
    "is_uncalibrated",
    "notes",
    "render_text",
    "stage_rows",
    "verdict_line",
]

_COLUMNS = ("stage", "size", "SQNR dB", "vs prev.", "max abs", "top-1", "parity")
_NONE = "-"
_EXPLAINED = 5


def render_text(manifest: Mapping[str, Any], parity: Mapping[str, Any]) -> str:
    """Return the report for the terminal: at most `WIDTH` columns, no colour, no final newline."""
    lines = [headline(manifest, parity), ""]
    lines += _table(stage_rows(manifest, parity))
    lines += _outputs(parity)
    lines += _correspondence(parity)
    for note in notes(manifest, parity):
        lines += ["", *textwrap.wrap(note, WIDTH - 2, subsequent_indent="  ")]
    return "\n".join(lines)


def explain(manifest: Mapping[str, Any], parity: Mapping[str, Any]) -> str:
    """Return where each stage lost accuracy, and what was tried against it, as text.

    Args:
        manifest: The content of ``manifest.json``.
        parity: The content of ``parity.json``.
    """
    lines: list[str] = []
    for stage in parity["stages"]:
        layers = stage["worst_layers"][:_EXPLAINED]
        if layers:
            rows = [_layer_row(layer) for layer in layers]
            lines += ["", f"worst layers of {stage['stage']}, in dB made here and carried", ""]
            lines += _table(rows, tuple(rows[0]))
            for layer in layers:
                lines += _next(layer)
        for trial in stage.get("trials", ()):
            lines.append(_trial(trial))
    for entry in manifest["stages"]:
        for step in entry.get("recovery", ()):
            verdict = "kept" if step["kept"] else "not worth it"
            lines.append(f"{entry['name']}: {step['name']} {step['gain_db']:+.1f} dB, {verdict}")
    return "\n".join(lines)


def advice(layer: Mapping[str, Any]) -> str:
    """Return the next step for a layer, with what it gained where it was tried; ``""`` for none."""
    if layer.get("gain_db") is None:
        return str(layer.get("advice", ""))
    return f"{layer['advice']} ({layer['gain_db']:+.1f} dB on the worst output)"


def _next(layer: Mapping[str, Any]) -> list[str]:
    text = f"{layer['onnx_node'] or layer['name'].partition(';')[0]}: {advice(layer)}"
    if layer.get("gain_db") is None:
        return []
    return textwrap.wrap(text, WIDTH - 2, initial_indent="  ", subsequent_indent="    ")


def _trial(trial: Mapping[str, Any]) -> str:
    option = _ending(shlex.join(trial["options"]), 44)
    if trial["failed"]:
        return f"tried {option}: {trial['failed']}"[:WIDTH]
    if trial["gain_db"] is None:
        return f"tried {option}: its outputs cannot be compared"
    holds = "passes" if trial["passes"] else "not enough"
    return f"tried {option}: {trial['gain_db']:+.1f} dB, {holds}"


def _layer_row(layer: Mapping[str, Any]) -> dict[str, str]:
    return {
        "layer": _ending(layer["onnx_node"] or layer["name"].partition(";")[0], 23),
        "op": _ending(layer["op"], 17),
        "here": format_db(layer["here_db"]),
        "carried": format_db(layer["carried_db"]),
        "module": _ending(layer["module"], 20),
    }


def _ending(text: str, width: int) -> str:
    """Return the end of a name, which tells it from others; all of it where it fits."""
    return text if len(text) <= width else f"...{text[3 - width :]}"


def _correspondence(parity: Mapping[str, Any]) -> list[str]:
    """Return which tensors of two models were taken for the same, and why."""
    matches = parity.get("correspondence", ())
    texts = [f"{item['kind']} {item['a']} = {item['b']}: {item['why']}" for item in matches]
    lines = [textwrap.wrap(text, WIDTH - 2, subsequent_indent="  ") for text in texts]
    return [""] * bool(lines) + [part for wrapped in lines for part in wrapped]


def _outputs(parity: Mapping[str, Any]) -> list[str]:
    """Return the last stage's figures per output, where there are several, and its worst part."""
    stage = parity["stages"][-1] if parity["stages"] else {"outputs": []}
    lines: list[str] = []
    if len(stage["outputs"]) > 1:
        figures = (f"{item['name']} {format_db(item['sqnr_db'])}" for item in stage["outputs"])
        text = f"{stage['stage']}, SQNR dB of each output: {', '.join(figures)}"
        lines += ["", *textwrap.wrap(text, WIDTH - 2, subsequent_indent="  ")]
    worst = worst_part(stage["outputs"])
    told = [f"worst part: {worst}"] if worst else []
    for words in (*told, *set_words(stage["outputs"])):
        text = f"{stage['stage']}, {words}"
        lines += ["", *textwrap.wrap(text, WIDTH - 2, subsequent_indent="  ")]
    return lines


def notes(manifest: Mapping[str, Any], parity: Mapping[str, Any]) -> list[str]:
    """Return what else must be said: failed gates, missing calibration, warnings."""
    found = [
        f"{stage['stage']} fails: {reason}"
        for stage in parity["stages"]
        if stage["status"] == "fail"
        for reason in stage["reasons"]
    ]
    found += [*_to_blame(parity), *_next_steps(manifest, parity), *_lost(parity)]
    if is_uncalibrated(manifest):
        found.append(
            f"uncalibrated: the {manifest['options']['quantize']} ranges come from generated "
            "inputs; give real ones with --calibration-data"
        )
    if parity["verdict"] == "skipped":
        found.append("unverified: parity was not checked (--no-verify)")
    elif parity["generated_samples"]:
        found.append(
            f"parity was measured on {parity['samples']} generated samples; give real ones with "
            + ("--data" if "correspondence" in parity else "--verify-data or --calibration-data")
        )
    for entry in (*manifest["stages"], manifest.get("target", {})):
        found += entry.get("notes", ())
    return found + [f"warning: {text}" for text in manifest["warnings"]]


def _to_blame(parity: Mapping[str, Any]) -> list[str]:
    """Return of each stage that failed the first layer that makes too much error."""
    found = []
    for stage in parity["stages"]:
        layer = stage.get("first_layer") if stage["status"] == "fail" else None
        if layer:
            origin = [layer["op"], *(layer[name] for name in ("onnx_node", "module", "source"))]
            words = ", ".join(dict.fromkeys(filter(None, origin)))
            found.append(
                f"first layer to blame in {stage['stage']}: {layer['name']} ({words}), "
                f"{format_db(layer['here_db'])} dB alone"
            )
    return found


def _next_steps(manifest: Mapping[str, Any], parity: Mapping[str, Any]) -> list[str]:
    """Return of each stage that failed what was tried, and the command that cures it."""
    found = []
    for stage in parity["stages"]:
        trials = stage.get("trials", ()) if stage["status"] == "fail" else ()
        step = stage.get("next_step")
        if trials and step is None:
            tried = ", ".join(shlex.join(trial["options"]) for trial in trials)
            found.append(f"next: of what was tried for {stage['stage']} nothing gains: {tried}")
        elif trials:
            holds = "and the gate holds" if step["passes"] else "which is not enough"
            found.append(
                f"next, tried for {stage['stage']}: {shlex.join(step['options'])} gives "
                f"{format_db(step['reached_db'])} dB on the worst output "
                f"({step['gain_db']:+.1f} dB), {holds}: {_command(manifest, step['options'])}"
            )
    return found


def _command(manifest: Mapping[str, Any], options: Sequence[str]) -> str:
    """Return the conversion's call with further options, which win over earlier ones."""
    command = [part for part in manifest["command"] if part != "--force"]
    if command[:1] != ["edgeconv"]:
        return "the same options of edgeconv.convert"
    return shlex.join([*command, *options, "--force"])


def _lost(parity: Mapping[str, Any]) -> list[str]:
    """Return the outputs of the baseline whose stages are not there any more."""
    stages = {stage["stage"] for stage in parity["stages"]}
    lost = {
        (item["stage"], item["output"])
        for item in parity.get("regressions", ())
        if item["stage"] not in stages
    }
    return [f"{stage} is gone; the baseline has its output {name}" for stage, name in sorted(lost)]


def stage_rows(manifest: Mapping[str, Any], parity: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the table's cells: of each stage the worst figure over its outputs and their parts."""
    checked = {stage["stage"]: stage for stage in parity["stages"]}
    return [_row(entry, checked.get(entry["name"]), parity) for entry in manifest["stages"]]


def _row(
    entry: Mapping[str, Any], stage: Mapping[str, Any] | None, parity: Mapping[str, Any]
) -> dict[str, str]:
    outputs = stage["outputs"] if stage else []
    top1 = _worst(outputs, "top1_agreement", min)
    status = stage["status"] if stage else "reference"
    if not stage and entry["name"] != parity["reference"]:
        status = _NONE
    return {
        "stage": entry["name"],
        "file": entry["file"],
        "size": format_bytes(entry["bytes"]),
        "SQNR dB": format_db(lowest_db(outputs)),
        "vs prev.": format_db(lowest_db(stage["previous"] if stage else [])),
        "max abs": _format(_worst(outputs, "max_abs", max), "{:.2g}"),
        "top-1": _format(None if top1 is None else 100 * top1, "{:.1f}%"),
        "parity": status,
        "seconds": _format(entry["seconds"], "{:.1f}"),
    }


def _worst(outputs: Iterable[Mapping[str, Any]], metric: str, choose: Any) -> float | None:
    values = [item[metric] for item in outputs if item[metric] is not None]
    return float(choose(values)) if values else None


def format_bytes(count: int) -> str:
    """Return a size for people: ``12.3 MB``, in powers of 1000."""
    size, units = float(count), ["B", "kB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"


def _format(value: float | None, pattern: str) -> str:
    return _NONE if value is None else pattern.format(value)


def _table(rows: Sequence[Mapping[str, str]], columns: Sequence[str] = _COLUMNS) -> list[str]:
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
