"""The program, its VMs and its banks without Azure, on one machine."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The repository's root folder."""
