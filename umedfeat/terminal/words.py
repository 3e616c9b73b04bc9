"""Counts as people say them."""

from __future__ import annotations

__all__ = ["counted"]


def counted(count: int, noun: str) -> str:
    """ "1 slide", "12,000 slides": nouns with a regular plural."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
