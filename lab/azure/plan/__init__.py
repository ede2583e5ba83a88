"""What one member's stack would create, and what a change of it would do."""
