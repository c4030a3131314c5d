"""The report as one page: no scripts, and nothing that a browser would have to fetch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from edgeconv.core.artifacts import Arrays
from edgeconv.core.visible import visible
from edgeconv.metrics.figures import OutputFigures, counted
from edgeconv.metrics.layers_report import LayersReport
from edgeconv.metrics.report import PASS, ParityReport, StageParity
from edgeconv.reports.charts import histogram_chart, layer_chart
from edgeconv.reports.headline import verdict_line
from edgeconv.reports.notes import notes
from edgeconv.reports.pictures import sample_rows
from edgeconv.reports.rows import stage_rows
from edgeconv.reports.words import advice, format_bytes, format_db, set_words, worst_part


def render_html(
    manifest: Mapping[str, Any],
    parity: ParityReport,
    inputs: Arrays | None = None,
    outputs: Arrays | None = None,
    found: Arrays | None = None,
) -> str:
    """Return the page.

    Args:
        manifest: Content of ``manifest.json``.
        parity: The report.
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
    checked = {stage.stage: stage for stage in parity.stages}
    good = manifest["status"] == "complete" and parity.verdict == PASS
    page: str = environment.from_string(template).render(
        manifest=manifest,
        parity=parity,
        verdict=_verdict(manifest, parity),
        headline=verdict_line(manifest, parity).removeprefix(f"{manifest['model']}: "),
        notes=notes(manifest, parity),
        cards=[{**row, **_extra(checked.get(row["stage"]))} for row in rows],
        good=good,
        hops=[
            _hop(stage, stage.layers)
            for stage in parity.stages
            if stage.layers and (stage.layers.layers or stage.layers.worst or stage.layers.note)
        ],
        histograms=[
            (stage.stage, item.name, histogram_chart(item))
            for stage in parity.stages
            for item in stage.histograms[:4]
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


def _last(parity: ParityReport) -> str:
    """Return the last stage that could be run."""
    names = [stage.stage for stage in parity.stages if stage.outputs]
    return names[-1] if names else ""


def _verdict(manifest: Mapping[str, Any], parity: ParityReport) -> str:
    if manifest["status"] != "complete":
        return "FAILED"
    return {"pass": "PASS", "fail": "FAIL", "skipped": "NOT VERIFIED"}[parity.verdict]


def _extra(stage: StageParity | None) -> dict[str, Any]:
    """Return what a stage's card has beside the table's cells."""
    milliseconds = stage.milliseconds if stage else None
    return {
        "latency": "-" if milliseconds is None else f"{milliseconds:.3g} ms",
        "gate": ", ".join(f"{name} {limit:g}" for name, limit in stage.gate.items())
        if stage
        else "",
        "runtime": (stage.runtime if stage else None) or "",
        "reasons": stage.reasons if stage else (),
    }


def _hop(stage: StageParity, layers: LayersReport) -> dict[str, Any]:
    limit = stage.gate.get("sqnr_db")
    return {
        "stage": stage.stage,
        "status": stage.status,
        "note": layers.note,
        "chart": layer_chart(layers.layers, limit, passed=stage.status == PASS),
        "samples": layers.samples,
        "count": len(layers.layers),
        "first": layers.first,
        "worst": layers.worst,
        "sources": any(item.source for item in layers.worst),
        "unmatched": layers.unmatched,
    }


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _values(output: OutputFigures) -> str:
    """Return how many distinct values are left, where that was counted."""
    return counted(output).removesuffix(" values") or "-"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"
