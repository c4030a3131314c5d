"""ONNX to SavedModel, and SavedModel to TFLite."""
