"""The ground that operators are translated on: values, views of them, and the registry."""
