"""Counts as people say them."""

from umedfeat.terminal.words import counted


def test_one_and_many() -> None:
    assert [counted(n, "slide") for n in (0, 1, 2, 12_000)] == ["0 slides", "1 slide", "2 slides", "12,000 slides"]
