"""Quantization of float TFLite models, flatbuffer to flatbuffer."""
