"""Targets: what a model is converted for."""
