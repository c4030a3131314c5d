"""Scripts that run inside the environments: they import what is installed there, never edgeconv.

``python -I SCRIPT REQUEST ANSWER`` reads a JSON request and writes the answer as JSON,
``{"result": ...}`` or ``{"error": {"kind": ..., "message": ...}}``. Anything else that happens is a
crash.
"""
