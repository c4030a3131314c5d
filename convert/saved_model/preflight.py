"""Which nodes of an ONNX file the translator would refuse.

Imports TensorFlow: call `preflight` in a worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tensorflow as tf

from edgeconv.convert.onnx.file import adopt, open_dimensions, open_onnx
from edgeconv.convert.ops import default_registry
from edgeconv.convert.saved_model.translate import Translation, load_graph
from edgeconv.core.errors import UnsupportedModel
from edgeconv.core.scratch import scratch_directory


def preflight(
    onnx: str, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> list[dict[str, Any]]:
    """List every node of an ONNX file that the translator would refuse, without converting it.

    The translator goes over the graph as it does for a conversion, with the same rewrites, but
    nothing is written, converted or run. A node that depends on a refused one is looked at only
    as far as its operator is known.

    Args:
        onnx: Path of the file.
        input_shapes: Shapes by input name; dimensions that stay open are taken as 1.

    Returns:
        The fields of an `UnsupportedNode` for each node: operator, node, PyTorch module and
        source line where the exporter recorded them, what is not supported, what to do. Empty
        where the translator takes the whole model.

    Raises:
        InvalidModel: The file is damaged, unsafe, or contradicts itself.
        UsageError: A shape does not fit.
    """
    path = Path(onnx)
    shapes = {
        name: tuple(size if isinstance(size, int) else 1 for size in shape)
        for name, shape in open_dimensions(path).items()
    } | dict(input_shapes or {})
    with scratch_directory() as folder:
        pinned = adopt(open_onnx(path, shapes), Path(folder) / "model.onnx")
        translation = Translation(load_graph(pinned.path), "nhwc", default_registry())
        signature = [tf.TensorSpec(spec.shape, spec.dtype) for spec in translation.inputs]
        function = tf.function(translation, autograph=False, input_signature=signature)
        try:
            function.get_concrete_function()
        except UnsupportedModel as refusal:
            return [asdict(node) for node in refusal.nodes]
    return []
