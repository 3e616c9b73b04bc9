"""The b-value of a diffusion-weighted MR slice, where a vendor tells it in elements of its own.

Elements and their meaning are those that the vendors' conformance statements name and that dcm2niix reads.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import pydicom
from pydicom.tag import BaseTag, Tag

from umedfeat.readers.dicom.numbers import texts_of

__all__ = ["B_VALUE_TAGS", "b_value"]

_BLOCKS = range(0x10, 0x14)  # a group's private blocks; creators seldom lie beyond the first
_GE_OFFSET = 100_000  # from some releases on 1,000,000,000 is added to tell that it is a b-value


class _Private(NamedTuple):
    """An element by its creator, and how its value is read."""

    group: int
    creator: str
    element: int
    read: Callable[[Any], float]


def _first_number(value: Any) -> float:
    """Of text or numbers; bytes where the file does not tell their type."""
    text = value.decode("ascii") if isinstance(value, bytes) else value
    several = text.split("\\") if isinstance(text, str) else [text] if isinstance(text, (int, float)) else list(text)
    return float(several[0])


def _binary(form: str) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        return float(struct.unpack(form, value)[0]) if isinstance(value, bytes) else float(value)

    return read


_ELEMENTS = (
    _Private(0x0019, "SIEMENS MR HEADER", 0x0C, _first_number),
    _Private(0x0043, "GEMS_PARM_01", 0x39, lambda value: _first_number(value) % _GE_OFFSET),
    _Private(0x2001, "Philips Imaging DD 001", 0x03, _binary("<f")),
    _Private(0x0065, "Image Private Header", 0x09, _binary("<d")),
)

#: What has to be read for ``b_value``: the standard's element, and creators and elements of the vendors' blocks.
B_VALUE_TAGS: list[BaseTag] = [Tag("DiffusionBValue")] + [
    Tag(one.group, tag) for one in _ELEMENTS for block in _BLOCKS for tag in (block, block << 8 | one.element)
]


def b_value(dataset: pydicom.Dataset) -> str:
    """In s/mm² as text, the standard's element before a vendor's; "" where neither tells."""
    told = "\\".join(texts_of(dataset, "DiffusionBValue"))
    return told or next((found for one in _ELEMENTS if (found := _text_of(dataset, one))), "")


def _text_of(dataset: pydicom.Dataset, one: _Private) -> str:
    for block in _BLOCKS:
        if str(_value(dataset, one.group, block)).strip() == one.creator:
            try:
                return f"{one.read(_value(dataset, one.group, block << 8 | one.element)):g}"
            except (ValueError, TypeError, IndexError, struct.error):  # not there, or damaged
                return ""
    return ""


def _value(dataset: pydicom.Dataset, group: int, element: int) -> Any:
    found = dataset.get(Tag(group, element))
    return None if found is None else found.value
