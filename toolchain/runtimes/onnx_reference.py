"""Run ONNX files with ONNX's own reference implementation. Imported by worker processes only.

It is slow, and has nearly every operator in every type: it stands in where onnxruntime refuses a
valid file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from edgeconv.core.artifacts import Array, Arrays, Artifact
from edgeconv.core.errors import InvalidModel, LimitExceeded, NoRuntime
from edgeconv.core.wording import named
from edgeconv.toolchain.runtimes import ONNX_REFERENCE
from edgeconv.toolchain.runtimes.reference_ops import CORRECTED
from edgeconv.toolchain.runtimes.samples import run_samples
from edgeconv.toolchain.worker.process import ProgressCallback


def run(
    artifact: dict[str, Any],
    feeds: str,
    results: str,
    progress: ProgressCallback | None = None,
    stream: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run the samples; see `edgeconv.toolchain.runtimes`.

    Raises:
        InvalidData: The samples do not fit.
        NoRuntime: The reference implementation does not have all of it either.
        LimitExceeded: A value that the model computes is larger than memory.
    """
    model = Artifact.from_dict(artifact)
    names = [spec.name for spec in model.outputs]
    try:
        evaluator = ReferenceEvaluator(str(model.path), new_ops=list(CORRECTED))
    except Exception as error:
        raise _refusal(model, error) from error

    def infer(sample: Arrays) -> Sequence[Array]:
        try:
            return [np.asarray(array) for array in evaluator.run(names, dict(sample))]
        except MemoryError as error:
            raise _too_large(model, error) from error
        except Exception as error:
            # Whatever numpy meets in an operator that is not implemented in this form.
            raise _refusal(model, error) from error

    try:
        milliseconds = run_samples(model, feeds, results, infer, progress, stream)
    except InvalidModel as error:
        raise _refusal(model, error) from error
    return {"runtime": f"{ONNX_REFERENCE} {onnx.__version__}", "milliseconds": milliseconds}


def _too_large(model: Artifact, error: MemoryError) -> LimitExceeded:
    return LimitExceeded(
        "a value that the model computes does not fit in memory",
        where=model.path.name,
        why=str(error),
        hint="do not trust a small file that asks for so much; otherwise raise "
        f"{named('memory_limit')}",
    )


def _refusal(model: Artifact, error: Exception) -> NoRuntime:
    import traceback

    return NoRuntime(
        "nothing here runs this ONNX file",
        where=model.path.name,
        why="neither onnxruntime nor ONNX's reference implementation has all of its operators in "
        "their types",
        hint="--verbose shows what they say; the conversion itself does not need them",
        details="".join(traceback.format_exception(error)),
    )
