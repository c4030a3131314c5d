"""Everything outside our own Python: worker processes, native runtimes, external tools."""
