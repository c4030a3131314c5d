"""edgeconv: take a PyTorch model to edge hardware and prove that it still computes the same."""
