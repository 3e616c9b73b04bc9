"""One bar on stderr, or a widget in a notebook: the only place that knows tqdm."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

__all__ = ["Bar", "in_notebook", "write_line"]


def in_notebook() -> bool:
    """Does a Jupyter kernel run this? Nothing is imported for the answer."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and type(ipython.get_ipython()).__name__ == "ZMQInteractiveShell"


def _kind() -> Any:
    """tqdm's widget where a notebook can show one (with ipywidgets), else its line of text."""
    if in_notebook() and find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm as widget

        return widget
    return tqdm


class Bar:
    """Counts up on stderr; silent where nobody watches. A context manager.

    Args:
        text: what is being done.
        total: in all; 0 if not known (see ``reach``).
        unit: what is counted; large numbers of anything but draws and inputs are shortened ("1.2M").
        shown: None: where stderr is a terminal, or in a notebook.
        stream: instead of stderr.
        options: further ones of tqdm.
    """

    def __init__(
        self,
        text: str,
        total: int = 0,
        unit: str = "row",
        *,
        shown: bool | None = None,
        stream: TextIO | None = None,
        **options: Any,
    ) -> None:
        stream = stream or sys.stderr
        usual = {"unit_scale": unit in ("row", "B"), "leave": False, "delay": 0.5, "dynamic_ncols": True}
        self._bar: Any = _kind()(
            desc=text,
            total=total or None,
            unit=unit,
            file=stream,
            disable=not (stream.isatty() or in_notebook() if shown is None else shown),
            **{**usual, **options},
        )

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        self._bar.update(count)

    def reach(self, done: int, total: int) -> None:
        """So many of so many are done."""
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def describe(self, text: str, total: int) -> None:
        """Another text and total, shown with the next update."""
        self._bar.total = total
        self._bar.set_description_str(text, refresh=False)

    def refresh(self) -> None:
        """Show it now."""
        self._bar.refresh()

    def close(self, total: int | None = None) -> None:
        """It is over; ``total``: what it came to, where that was a guess."""
        if total is not None:
            self._bar.total = total
        self._bar.close()


def write_line(text: str, stream: TextIO) -> None:
    """A line above whatever bar is shown."""
    tqdm.write(text, file=stream)
