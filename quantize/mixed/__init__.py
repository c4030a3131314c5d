"""The fewest layers to keep in more bits."""
