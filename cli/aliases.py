"""Former names of commands and options: they work, and no help shows them.

The parser takes a former name for the current one: both are one option, which may be repeated under either name, and
errors name the current one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typer.core import TyperCommand

FORMER_OPTIONS: Mapping[str, str] = {
    "as": "modality-rule",
    "content": "hash-media",
    "cosine": "threshold",
    "diverse": "diversity",
    "files": "check-media",
    "in": "under",
    "max": "limit",
    "rank": "ranking",
}
"""Current names of options by their former ones, without the dashes; in every command that has the option."""

FORMER_COMMANDS: Mapping[str, str] = {"dupes": "duplicates"}
"""Current names of commands by their former ones."""


def current_command(name: str) -> str:
    """Return the current name of a command. The program's `token_normalize_func`: asked for unknown commands only."""
    return FORMER_COMMANDS.get(name, name)


class Command(TyperCommand):
    """Command that takes its options by their former names too."""

    def make_parser(self, ctx: Any) -> Any:
        """Return the parser of this command's options."""
        options = {name for parameter in self.params for name in parameter.opts}
        former = {before: now for before, now in FORMER_OPTIONS.items() if f"--{now}" in options}
        ctx.token_normalize_func = lambda name: former.get(name, name)
        return super().make_parser(ctx)
