"""Figures of parity: how far one model's outputs follow another's, and what is asked of them."""
