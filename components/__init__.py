"""The parts of one member, one component and its Args a module. None of them reads configuration."""
