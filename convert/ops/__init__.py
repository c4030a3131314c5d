"""Translations of ONNX operators, one file a family."""
