"""Banks on this machine: real nodes, run by the project's own agents, as VMs that are processes with a loopback address."""
