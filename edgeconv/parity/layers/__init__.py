"""The error of each layer of a SavedModel or .tflite file, against the ONNX file it came from."""
