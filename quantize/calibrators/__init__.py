"""Calibrators: how a range is chosen from what calibration saw, one file each."""
