"""Conversion: PyTorch to ONNX to SavedModel to TFLite."""
