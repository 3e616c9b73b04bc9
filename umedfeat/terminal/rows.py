"""A progress bar over the rows of feature files, on stderr; silent where nobody watches."""

from __future__ import annotations

import sys
from types import TracebackType

from tqdm import tqdm

__all__ = ["RowBar"]


class RowBar:
    """Context manager whose ``update`` takes numbers of rows.

    Args:
        text: what is being done.
        total: rows in all; 0 if not known.
    """

    def __init__(self, text: str, total: int = 0) -> None:
        self._bar = tqdm(
            desc=text,
            total=total or None,
            unit="row",
            unit_scale=True,
            leave=False,
            delay=0.5,
            disable=not sys.stderr.isatty(),
        )

    def __enter__(self) -> RowBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def update(self, rows: int) -> None:
        """So many rows more are done."""
        self._bar.update(rows)
