"""Names of the installed distributions that umedfeat needs at run time, with the given extras; for ``pip-licenses``.

From the root of the checkout (Python 3.11 or later)::

    pip install pip-licenses
    pip-licenses --from=mixed --format=markdown --packages $(python docs/dependencies.py openvino) > docs/licences.md
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

import tomllib
from packaging.requirements import Requirement


def declared(extras: list[str]) -> list[str]:
    """Requirements in pyproject.toml, with those of some extras."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *(text for name in extras for text in project["optional-dependencies"][name])]


def closure(requirements: list[str]) -> set[str]:
    """Canonical names of what is installed of them, and of what that needs in turn."""
    found: set[str] = set()
    waiting = list(requirements)
    while waiting:
        requirement = Requirement(waiting.pop())
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        waiting += needs
    return found


if __name__ == "__main__":
    sys.stdout.write(" ".join(sorted(closure(declared(sys.argv[1:])))) + "\n")
