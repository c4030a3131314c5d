"""Graph rewrites on ONNX, one file a rewrite."""
