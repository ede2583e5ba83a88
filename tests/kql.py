"""Runs a query on rows, without Log Analytics: `lab.kql`, by the name that tests know."""

from lab.kql import rows_of

__all__ = ["rows_of"]
