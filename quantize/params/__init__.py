"""Scales and zero points: what ranges, weights and inputs come to."""
