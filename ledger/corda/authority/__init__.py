"""The network's authority: certifies the legal names of the members' nodes and signs the network's parameters.

It runs on VMs of its own, `python -m ledger.corda.authority`, as many as one likes: whatever they know they have from
the register, and each step in it is a write that fails if another VM was faster.
"""
