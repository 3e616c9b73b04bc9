"""Man pages, made of the commands' own help when a wheel is built: ``man umedfeat-extract`` after ``pip install``.

Build hook of hatchling (see pyproject.toml); by hand: ``python .ci/man_pages.py FOLDER``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # by hand, without hatchling
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parents[1]
#: In the header instead of the day of the build, which would make every build another one.
DATE = "umedfeat"


def write_pages(folder: Path) -> list[Path]:
    """``umedfeat.1`` and a page for every command and sub-command."""
    import click
    from click_man.core import write_man_pages

    sys.path.insert(0, str(ROOT))
    from umedfeat._version import __version__
    from umedfeat.cli import COMMANDS, root

    context = click.Context(root)
    commands = {name: root.get_command(context, name) for name in COMMANDS}
    everything = click.Group("umedfeat", commands=commands, params=root.params, help=root.help)
    write_man_pages("umedfeat", everything, version=__version__, target_dir=str(folder), date=DATE)
    return sorted(folder.glob("*.1"))


class ManPages(BuildHookInterface):  # type: ignore[misc]
    """Puts the pages into the wheel, from where pip copies them to ``share/man/man1``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the wheel is packed."""
        self._folder = Path(tempfile.mkdtemp(prefix="umedfeat-man-"))
        for page in write_pages(self._folder):
            build_data["shared_data"][str(page)] = f"share/man/man1/{page.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """After it."""
        shutil.rmtree(self._folder, ignore_errors=True)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    write_pages(target)
