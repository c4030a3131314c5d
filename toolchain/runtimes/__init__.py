"""Model runtimes, each called through a worker process."""
