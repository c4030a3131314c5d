"""Measurements that the documentation's figures come from. Run each with ``python -m``."""
