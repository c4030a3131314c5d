"""Worker processes, which may crash, abort or hang without taking the caller along."""
