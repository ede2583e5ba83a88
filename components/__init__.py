"""The components of one member, each in a module with its Args. No component reads configuration."""
