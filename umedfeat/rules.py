"""What a setting may be: a rule per field of a settings class, kept wherever the class is made.

::

    @dataclass(frozen=True)
    class SlidePolicy(Ruled):
        mpp: float = setting(0.5, Within(0.01, 100))

The command line makes its option types from the same rules (``umedfeat.cli.options``), so what a command refuses and
what a function refuses cannot differ.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from umedfeat.errors import SetupError

__all__ = ["OneOf", "Rule", "Ruled", "Within", "Written", "rule_of", "setting"]

_RULE = "rule"
_UNSET = object()


class Rule(Protocol):
    """Legal values of a setting."""

    def __call__(self, value: Any) -> Any:
        """The value as it is kept: checked, and written in the one way that enters the fingerprint.

        Raises:
            ValueError: not legal; the message says what is, without naming the setting.
        """
        ...


@dataclass(frozen=True)
class Within:
    """A finite number between two bounds, both included unless ``open_low``. ``whole``: an integer."""

    low: float
    high: float | None = None
    whole: bool = False
    open_low: bool = False

    def __call__(self, value: Any) -> float:
        kinds = int if self.whole else (int, float)
        if not isinstance(value, kinds) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"{self.legal}")
        above = value > self.low if self.open_low else value >= self.low
        if not above or (self.high is not None and value > self.high):
            raise ValueError(f"{self.legal}")
        return int(value) if self.whole else float(value)

    @property
    def legal(self) -> str:
        """In words."""
        what = "a whole number" if self.whole else "a number"
        low = f"above {self.low:g}" if self.open_low else f"from {self.low:g}"
        return f"{what} {low}" + ("" if self.high is None else f" to {self.high:g}")


@dataclass(frozen=True)
class OneOf:
    """One of a few words."""

    values: tuple[str, ...]

    def __call__(self, value: Any) -> str:
        if value not in self.values:
            raise ValueError(f"one of {', '.join(self.values)}")
        return str(value)


@dataclass(frozen=True)
class Written:
    """Text with a grammar of its own. ``parse`` checks and normalises; its ValueError says what is legal."""

    parse: Callable[[str], str]

    def __call__(self, value: Any) -> str:
        return self.parse(str(value))


def setting(default: Any, rule: Rule, *, unset: Any = _UNSET) -> Any:
    """A dataclass field with a rule. ``unset``: the value that means "not given" and needs no rule."""
    return dataclasses.field(default=default, metadata={_RULE: rule, "unset": unset})


def rule_of(field: dataclasses.Field[Any]) -> Rule | None:
    """The rule of a dataclass field, if it has one."""
    rule: Rule | None = field.metadata.get(_RULE)
    return rule


class Ruled:
    """Base of settings classes: every field keeps its rule.

    Raises:
        SetupError: a value is not legal; it names the setting, the value and what is legal.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            value = getattr(self, field.name)
            rule = rule_of(field)
            if rule is None or value is field.metadata["unset"] or value == field.metadata["unset"]:
                continue
            try:
                object.__setattr__(self, field.name, rule(value))
            except ValueError as error:
                raise SetupError(f"{field.name} {value!r} is not legal", remedy=str(error)) from error
