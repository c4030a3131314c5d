"""Reports that are made up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeconv.metrics.layer_errors import LayerError
from edgeconv.metrics.layers_report import Unmatched
from edgeconv.metrics.report import ParityReport
from edgeconv.parity.layers.entries import with_layers
from edgeconv.parity.layers.measure import StageLayers


def as_report(content: Mapping[str, Any]) -> ParityReport:
    """Return the report that a ``parity.json`` of this content is, whose stages may lack much."""
    least = {"file": "", "status": "pass", "gate": {}}
    stages = [{**least, **stage} for stage in content["stages"]]
    head = {
        "model": "m",
        "reference": "torch",
        "samples": 16,
        "calibrated": True,
        "generated_samples": False,
    }
    return ParityReport.from_dict({**head, **content, "stages": stages})


FIGURES = {
    "name": "score",
    "max_abs": 1e-6,
    "mean_abs": 1e-7,
    "max_rel": 1e-3,
    "peak_error": 1e-6,
    "cosine": 1.0,
    "sqnr_db": 50.0,
    "top1_agreement": 1.0,
    "exact": None,
}


def reports_with_layers(count: int) -> tuple[dict[str, Any], ParityReport]:
    """Return manifest and parity; the layer in the middle is bad in the SavedModel."""
    names = ("saved_model", "tflite_fp32", "tflite_int8")
    manifest = {
        "status": "complete",
        "failure": None,
        "model": "made_up",
        "created": "2026-01-01T00:00:00+00:00",
        "command": ["edgeconv", "torch2tflite", "made_up.pt2"],
        "options": {"quantize": "int8", "target": "cpu"},
        "calibrated": True,
        "warnings": [],
        "tools": {"torch": "2"},
        "inputs": [],
        "outputs": [],
        "stages": [
            {"name": name, "file": f"{name}.bin", "bytes": 1234, "seconds": 1.5, "sha256": "0" * 64}
            for name in ("onnx", *names)
        ],
    }
    stages = [
        {
            "stage": name,
            "file": f"{name}.bin",
            "runtime": "x 1",
            "ran_on": "cpu",
            "fallback": None,
            "status": "fail" if name == "saved_model" else "pass",
            "gate": {"sqnr_db": 80.0 if name != "tflite_int8" else 12.0},
            "reasons": ["output score: sqnr_db 50 is below 80"] if name == "saved_model" else [],
            "outputs": [FIGURES],
            "previous_stage": None,
            "previous": [FIGURES],
            "worst_layers": [],
            "histograms": [{"name": "score", "exponents": [-3, -2], "counts": [5, 1]}],
            "milliseconds": 1.25,
        }
        for name in names
    ]
    parity = {
        "schema_version": 1,
        "model": "made_up",
        "reference": "torch",
        "samples": 100,
        "calibrated": True,
        "generated_samples": False,
        "stages": stages,
        "verdict": "fail",
    }
    layers = tuple(
        LayerError(
            name=f"node_convolution_{number}",
            op="CONV_2D",
            here_db=20.0 if number == count // 2 else 130.0,
            carried_db=125.0 - number / count if number < count // 2 else 20.0,
            onnx_node=f"node_Conv_{number}",
            module=f"features.{number}.convolution",
            source=f"/home/user/project/network.py:{number}",
        )
        for number in range(count)
    )
    unmatched = (Unmatched("folded", "Relu", "part of the next"),)
    found = dict.fromkeys(names, StageLayers(layers, unmatched))
    return manifest, with_layers(as_report(parity), found)
