"""Reports of a bundle in the forms that people, CI systems and viewers read."""
