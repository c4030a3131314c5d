"""ONNX files: read, checked, pinned, and what their graphs tell."""
