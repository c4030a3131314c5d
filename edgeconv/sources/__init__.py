"""Where a conversion starts: the model, in a process of its own where it can be, and its data."""
