"""Operators that compute in float among integers, because they must."""
