"""What everything rests on: artifacts, options, errors, files, streams."""
