"""The whole way from a model to its bundle."""
