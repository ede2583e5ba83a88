"""Where a plan's time and memory go."""
