"""The network's authority: certifies the legal names of the members' nodes and signs the network's parameters.

It runs on its own VMs, `python -m ledger.corda.authority`, in any number. Their only shared state is the register,
and each step in it is a conditional write, which fails if another VM wrote first.
"""
