"""What keeps the libraries that edgeconv runs from reporting home.

onnxruntime collects from the moment of its import: only the environment is early enough. The others
listen where they are installed at all, mostly because a model's own code brings them.
"""

from __future__ import annotations

SWITCHES = {
    # onnxruntime: a device number, facts of the machine and error texts, for its maker.
    "ORT_DISABLE_TELEMETRY": "1",
    # huggingface_hub, transformers and what is built on them.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # The common convention (consoledonottrack.com).
    "DO_NOT_TRACK": "1",
}
"""Environment variables for every process that runs a library of others.

torch, TensorFlow, Keras, LiteRT, ONNX and onnxscript have nothing to switch off: they report
nothing.
"""
