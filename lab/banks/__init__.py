"""Banks on this machine: the real agents run real nodes; each VM is a process with its own loopback address."""
