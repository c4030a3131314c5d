"""TFLite files: read, guarded, looked at, rewritten and run."""
