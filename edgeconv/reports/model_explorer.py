"""Node data for Google's Model Explorer, which shows it over the graph of the model.

The form is that of https://github.com/google-ai-edge/model-explorer/wiki, "node data". Nodes of a
.tflite file are known to the viewer by the tensors that they make.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeconv.metrics.report import StageParity

_THRESHOLDS = (
    (15.0, "#b3202a"),
    (25.0, "#e8710a"),
    (35.0, "#f9ab00"),
    (60.0, "#9ccc65"),
    (301.0, "#13733a"),
)


def render_node_data(stage: StageParity, tensors: Mapping[str, str]) -> dict[str, Any]:
    """Return the node data of one stage.

    Args:
        stage: The stage.
        tensors: Name in the file of each layer whose name is another one.
    """
    layers = stage.layers.layers if stage.layers else ()
    values = {
        "made here, dB": {layer.name: layer.here_db for layer in layers},
        "carried, dB": {layer.name: layer.carried_db for layer in layers},
    }
    return {
        f"{stage.stage} {label}": {
            "results": {
                tensors.get(name, name): {"value": value}
                for name, value in found.items()
                if value is not None
            },
            "thresholds": [
                {"value": limit, "bgColor": color, "labelColor": "#ffffff"}
                for limit, color in _THRESHOLDS
            ],
        }
        for label, found in values.items()
    }
