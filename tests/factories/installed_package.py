"""A distribution with entry points, as pip would leave it on the path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def install(folder: Path, patch: pytest.MonkeyPatch, name: str, module: str, code: str, points: str) -> Path:
    """Version 1.2 of a distribution with one module, importable while the patch lasts.

    Args:
        name: of the distribution. module, code: its module. points: text of ``entry_points.txt``.

    Returns:
        Its folder of metadata.
    """
    info = folder / f"{module}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(points)
    (folder / f"{module}.py").write_text(code)
    patch.syspath_prepend(folder)
    patch.delitem(sys.modules, module, raising=False)
    return info
