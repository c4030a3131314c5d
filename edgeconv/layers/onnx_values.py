"""The values inside an ONNX graph. Imports onnxruntime: call `record` in a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from edgeconv.arrays import read_npz
from edgeconv.artifacts import Artifact
from edgeconv.layers.streams import SampleWriter
from edgeconv.toolchain.runtimes.samples import thread_count


def record(
    onnx_model: Mapping[str, Any],
    feeds: str,
    start: int,
    stop: int,
    names: Sequence[str],
    results: str,
) -> list[str]:
    """Write the named values of some samples, as ONNX has them, with a leading sample axis.

    Args:
        onnx_model: The artifact, `Artifact.to_dict`.
        feeds: ``.npz`` of all samples by input name, in the stored form.
        start: The first sample to run.
        stop: The one after the last.
        names: The values; those that are no float tensors are left out.
        results: The ``.npz`` to write, keys ``<sample>/<number>``.

    Returns:
        The names of what was written, by number.
    """
    model = Artifact.from_dict(onnx_model)
    graph = onnx.load(str(model.path))
    inputs = [spec.name for spec in model.inputs]
    known = {value.name for value in graph.graph.output}
    made = {name for node in graph.graph.node for name in node.output if name}
    wanted = [name for name in names if name in made]
    for name in wanted:
        if name not in known:
            graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    kinds = {item.name: item.type for item in session.get_outputs()}
    wanted = [name for name in wanted if kinds[name] == "tensor(float)"]
    arrays = read_npz(Path(feeds))
    with SampleWriter(Path(results)) as writer:
        for index in range(start, stop):
            feed = {name: arrays[name][index] for name in inputs}
            for number, value in enumerate(session.run(wanted, feed) if wanted else ()):
                writer.write(index, number, value)
    return wanted
