"""What the Edge TPU takes: the table of operators, prediction, and what compiled packages hold."""
