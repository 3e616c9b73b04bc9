"""An option that takes one file: given twice it is refused, where click would take the last without a word."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["OneFile"]


class OneFile(click.Option):
    """``cls`` of an option for one feature file."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Collect every value that is given."""
        parser.add_option(obj=self, opts=self.opts, dest=self.name, action="append", nargs=1)

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """The only value.

        Raises:
            click.UsageError: there are several.
        """
        if isinstance(value, list):
            if len(value) > 1:
                message = f"--features takes one file and is given {len(value)}: `umedfeat merge` makes one of them"
                raise click.UsageError(message, ctx)
            value = value[0]
        return super().process_value(ctx, value)
