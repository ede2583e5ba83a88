"""Monthly cost of a member's resources, from the plan of its stack and a dated price list."""
