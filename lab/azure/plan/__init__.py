"""Plans of one member's stack, and the effects of changes."""
