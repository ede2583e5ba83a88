"""Turns a stack's configuration into the inputs of components and the configuration of VMs."""
