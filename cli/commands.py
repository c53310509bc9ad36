"""The commands by name; a command's module is imported when the command is used."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from copy import copy
from importlib import import_module
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from bindsearch.cli.aliases import Command
from bindsearch.cli.settings.plain_values import with_plain_values
from bindsearch.cli.summaries import SUMMARIES

_ELSEWHERE = {
    "locate": ("locate.command", "locate_command"),
    "import": ("import_", "import_command"),
    "eval": ("eval_", "eval_command"),
    **{name: (name, f"{name}_app") for name in ("bench", "config", "model")},
}
COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {name: _ELSEWHERE.get(name, (name, f"{name}_command")) for name in SUMMARIES}
)
"""Module below `bindsearch.cli`, and function or Typer program in it, of each command, in the order of the help."""


class CommandGroup(TyperGroup):
    """Group of COMMANDS."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _LoadedCommands(dict.fromkeys(COMMANDS))

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  (given by Typer)
        """Return the names of the commands."""
        return [*self.commands]

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options before the command."""
        return with_plain_values(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the program."""
        super(CommandGroup, self._listed()).format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the commands that complete a word."""
        return super(CommandGroup, self._listed()).shell_complete(ctx, incomplete)

    def _listed(self) -> CommandGroup:
        """Return a copy whose commands have names and summaries only."""
        listed = copy(self)
        listed.commands = {name: TyperCommand(name, help=summary) for name, summary in SUMMARIES.items()}
        return listed


class _LoadedCommands(UserDict[str, Any]):
    """COMMANDS, each made when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        if self.data[name] is None:
            self.data[name] = _make(name, *COMMANDS[name])
        return self.data[name]


def _make(name: str, module: str, attribute: str) -> Any:
    found = getattr(import_module(f"bindsearch.cli.{module}"), attribute)
    if isinstance(found, typer.Typer):
        program = found
    else:
        from bindsearch.cli.options import with_option_groups

        program = typer.Typer(add_completion=False)
        program.command(name, cls=Command)(with_option_groups(found))
    return typer.main.get_command(program)
