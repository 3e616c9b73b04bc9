"""Numbers as people write them."""

from __future__ import annotations

__all__ = ["plain"]


def plain(value: float, digits: int = 3) -> str:
    """Significant digits without a power of ten: "0.123", "12.3", "1234"."""
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text else text
