"""Shared by every program on a VM: a node's agent and a network's authority."""
