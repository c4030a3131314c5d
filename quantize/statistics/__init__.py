"""Ranges of activations: calibration over samples."""
