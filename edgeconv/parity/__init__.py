"""Parity: of every stage, of a bundle, of two models, of two converters, of each layer."""
