"""What runs on each node VM."""
