"""Compiles a test's own Java classes against Corda's."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

_JAVA_8 = ("-source", "8", "-target", "8", "-nowarn", "-Xlint:-options", "-proc:none")
"""Compiler options for the Java version of Corda's nodes."""


def compiled(folder: Path, needed: Iterable[str | Path], *sources: Path) -> str:
    """Compile sources into a folder; returns the class path of the classes and of the jars that they need."""
    path = os.pathsep.join(map(str, needed))
    subprocess.run(["javac", *_JAVA_8, "-cp", path, "-d", folder, *sources], check=True)
    return f"{folder}{os.pathsep}{path}"
