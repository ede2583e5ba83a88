"""Banks on this machine: the project's own agents run real nodes, as VMs that are processes with an address."""
