"""Calibration and verification samples: read, checked, generated."""
