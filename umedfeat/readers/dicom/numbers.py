"""Numbers of headers, read with patience: decimals with a comma, blanks, what does not parse, what is not finite."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue

__all__ = ["comma_decimals", "number_of", "numbers_of", "texts_of", "whole_of"]


def texts_of(dataset: pydicom.Dataset, keyword: str) -> tuple[str, ...]:
    """The values of an element as text, also where pydicom cannot parse them; empty where there is none."""
    try:
        value: Any = dataset.get(keyword)
    except Exception:  # noqa: BLE001 - pydicom parses on access, and raises whatever odd values lead to
        raw: Any = dataset.get_item(keyword)
        value = raw.value if isinstance(raw, RawDataElement) else None
    if isinstance(value, bytes):
        value = value.decode("latin-1").split("\\")
    if value is None or isinstance(value, pydicom.Sequence):
        return ()
    several = value if isinstance(value, MultiValue | list | tuple) else [value]
    return tuple(text for text in (str(one if one is not None else "").strip(" \0") for one in several) if text)


def numbers_of(dataset: pydicom.Dataset, keyword: str) -> tuple[float, ...]:
    """The values as finite numbers; empty where one of them is none."""
    numbers = [_number(text) for text in texts_of(dataset, keyword)]
    return tuple(number for number in numbers if number is not None) if None not in numbers else ()


def number_of(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """The first value as a finite number, or None."""
    texts = texts_of(dataset, keyword)
    return _number(texts[0]) if texts else None


def whole_of(dataset: pydicom.Dataset, keyword: str) -> int | None:
    """The first value as a whole number, or None."""
    number = number_of(dataset, keyword)
    return int(number) if number is not None and number.is_integer() else None


def comma_decimals(dataset: pydicom.Dataset, keyword: str) -> bool:
    """Are decimals written with a comma (against PS3.5 6.2)?"""
    return any("," in text for text in texts_of(dataset, keyword))


def _number(text: str) -> float | None:
    if not re.fullmatch(r"[-+0-9.,eE]+", text):
        return None
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return None
    return number if np.isfinite(number) else None
