"""PyTorch models: read from files, guarded, decomposed, exported to ONNX."""
