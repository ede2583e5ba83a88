"""The agent, which runs on each node VM."""
