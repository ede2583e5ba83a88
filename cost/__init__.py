"""What a member's resources cost a month, from the plan of its stack and a dated price list."""
