"""Options that several commands share, and a choice that knows what was meant."""

from __future__ import annotations

from typing import Any, get_args

import click

from edgeconv.core.errors import close_to


class Choice(click.Choice[str]):
    """One of some words; another word that is close to one of them is answered with that."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Return what is said of a value that is none of them."""
        known = super().get_invalid_choice_message(value, ctx)
        hint = close_to(str(value), self.choices)
        return f"{known}\n  next: {hint}" if hint else known


def choice(kind: Any) -> Choice:
    """Return the choice of a `Literal`'s values."""
    return Choice(get_args(kind))


memory_option = click.option(
    "--memory-limit",
    metavar="SIZE",
    help="Memory that each worker process may take, such as 4GB.  [default: half of the machine's]",
)
"""For commands that have work done in worker processes; the value is for `parse_memory`."""
