"""The workers of a conversion, which import what will be called there before it is."""

from __future__ import annotations

from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool

_PRELOAD: dict[WorkerKind, tuple[str, ...]] = {
    WorkerKind.ONNXRUNTIME: ("edgeconv.toolchain.runtimes.onnxruntime",),
    WorkerKind.LITERT: ("edgeconv.toolchain.runtimes.litert",),
    WorkerKind.TENSORFLOW: (
        "edgeconv.toolchain.worker.deferred_imports:defer_tensorflow",
        "edgeconv.toolchain.runtimes.tensorflow",
        "edgeconv.convert.saved_model.translate",
        "edgeconv.convert.saved_model.to_tflite",
    ),
    WorkerKind.QUANTIZER: ("edgeconv.quantize.engine",),
    WorkerKind.TORCH: (
        "torch",
        "torch._dynamo",
        "torch.export",
        "torch.onnx._internal.exporter._core",
        "onnxscript.function_libs.torch_lib.ops",
        "edgeconv.sources.torch_process",
    ),
}


def worker_pool(*, timeout: float = 1800.0, memory: int | None = None) -> WorkerPool:
    """Return workers that have not been started.

    Args:
        timeout: Seconds that one call may take.
        memory: Bytes that each worker may take; half of the machine's memory by default.
    """
    return WorkerPool(timeout=timeout, memory=memory, preload=_PRELOAD)
