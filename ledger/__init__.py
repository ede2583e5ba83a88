"""The platform seam: what one ledger software needs from the infrastructure, as data, and how its node is run.

A platform is one module here, or one package, whose attribute `PLATFORM` says all of it; nothing else names it. The
infrastructure program loads every module here: what only runs on a VM is loaded by `Platform.software`.
"""
