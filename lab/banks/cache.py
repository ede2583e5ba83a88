"""The folder that caches downloads and builds for tests."""

import os
from pathlib import Path


def cached() -> Path:
    """The cache folder, which is created if it does not exist."""
    # Other users, such as the one that PostgreSQL runs as, can't read root's home.
    own = Path("/var/cache") if os.geteuid() == 0 else Path.home() / ".cache"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or own) / "decentralized-trust"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
