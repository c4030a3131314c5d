"""The report as one page: no scripts, and nothing that a browser would have to fetch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from edgeconv.core.artifacts import Arrays
from edgeconv.core.visible import visible
from edgeconv.metrics.layer_errors import LayerError
from edgeconv.metrics.worst import set_words, worst_part
from edgeconv.reports.charts import histogram_chart, layer_chart
from edgeconv.reports.pictures import sample_rows
from edgeconv.reports.text import (
    advice,
    format_bytes,
    format_db,
    notes,
    stage_rows,
    verdict_line,
)


def render_html(
    manifest: Mapping[str, Any],
    parity: Mapping[str, Any],
    inputs: Arrays | None = None,
    outputs: Arrays | None = None,
    found: Arrays | None = None,
) -> str:
    """Return the page.

    Args:
        manifest: Content of ``manifest.json``.
        parity: Content of ``parity.json``.
        inputs: Samples by input name, for the pictures.
        outputs: The reference's outputs for them.
        found: Those of the last stage that could be run.
    """
    from jinja2 import Environment, StrictUndefined

    template = resources.files("edgeconv").joinpath("templates/report.html").read_text()
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        advice=advice,
        db=format_db,
        figure=_figure,
        percent=_percent,
        size=format_bytes,
        values=_values,
        worst_part=worst_part,
        set_words=set_words,
    )
    rows = stage_rows(manifest, parity)
    samples = sample_rows(inputs or {}, outputs or {}, found or {}, _last(parity))
    checked = {stage["stage"]: stage for stage in parity["stages"]}
    good = manifest["status"] == "complete" and parity["verdict"] == "pass"
    page: str = environment.from_string(template).render(
        manifest=manifest,
        parity=parity,
        verdict=_verdict(manifest, parity),
        headline=verdict_line(manifest, parity).removeprefix(f"{manifest['model']}: "),
        notes=notes(manifest, parity),
        cards=[{**row, **_extra(checked.get(row["stage"]))} for row in rows],
        good=good,
        hops=[
            _hop(stage)
            for stage in parity["stages"]
            if stage.get("layers") or stage["worst_layers"] or stage.get("layers_note")
        ],
        histograms=[
            (stage["stage"], item["name"], histogram_chart(item))
            for stage in parity["stages"]
            for item in stage.get("histograms", ())[:4]
        ],
        samples=samples,
        has_scores=any(figure.chart for _, figures in samples for figure in figures),
        shown_stage=_last(parity) if found else "",
        hashes=[
            (entry["file"], entry["sha256"], format_bytes(entry["bytes"]))
            for entry in manifest["stages"]
            if "sha256" in entry
        ],
    )
    return visible(page)


def _last(parity: Mapping[str, Any]) -> str:
    """Return the last stage that could be run."""
    names = [str(stage["stage"]) for stage in parity["stages"] if stage["outputs"]]
    return names[-1] if names else ""


def _verdict(manifest: Mapping[str, Any], parity: Mapping[str, Any]) -> str:
    if manifest["status"] != "complete":
        return "FAILED"
    return {"pass": "PASS", "fail": "FAIL", "skipped": "NOT VERIFIED"}[parity["verdict"]]


def _extra(stage: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a stage's card has beside the table's cells."""
    milliseconds = stage.get("milliseconds") if stage else None
    return {
        "latency": "-" if milliseconds is None else f"{milliseconds:.3g} ms",
        "gate": ", ".join(f"{name} {limit:g}" for name, limit in stage["gate"].items())
        if stage
        else "",
        "runtime": (stage.get("runtime") if stage else None) or "",
        "reasons": stage["reasons"] if stage else [],
    }


def _hop(stage: Mapping[str, Any]) -> dict[str, Any]:
    limit = stage["gate"].get("sqnr_db")
    return {
        "stage": stage["stage"],
        "status": stage["status"],
        "note": stage.get("layers_note", ""),
        "chart": layer_chart(stage.get("layers", ()), limit, passed=stage["status"] == "pass"),
        "samples": stage.get("layer_samples"),
        "count": len(stage.get("layers", ())),
        "first": stage.get("first_layer"),
        "worst": [LayerError.from_dict(item).to_dict() for item in stage["worst_layers"]],
        "sources": any(item.get("source") for item in stage["worst_layers"]),
        "unmatched": stage.get("unmatched_layers", ()),
    }


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _values(output: Mapping[str, Any]) -> str:
    """Return how many distinct values are left, where that was counted."""
    if output.get("levels") is None:
        return "-"
    return f"{output['levels']:,} of {output['reference_levels']:,}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"
