"""What graphs join and carry on: values of different ranges side by side, and states."""
