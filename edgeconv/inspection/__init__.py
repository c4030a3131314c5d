"""What is inside a model file: read as JSON-ready values, shown as text."""
