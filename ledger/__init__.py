"""The platform seam: what one ledger software needs from the infrastructure, as data."""
