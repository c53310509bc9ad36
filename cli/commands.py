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

from bindsearch.cli.aliases import Command, with_plain_values

SUMMARIES: Mapping[str, str] = MappingProxyType(
    {
        "index": "Index folders: add new files, update changed ones, remove deleted ones. Run it again at any time.",
        "search": "Search with a text, files, or a weighted sum of several. Options are combined into one query.",
        "explain": "Show the plan of a query: how each modality is searched, the estimated cost and the reasons.",
        "classify": "Name the classes of files by labels in words, "
        "or write the class of each item of a store into a column.",
        "imagine": "Make a picture from a query of any modality: "
        "its embedding takes the place of a picture's in a decoder.",
        "locate": "Show where files answer a query: boxes of pictures and videos, spans of sounds and motion.",
        "show": "Show what reaches the encoder for a file, and why: "
        "decoded exactly as `index` does, but nothing is written.",
        "serve": "Serve a page to search with, its JSON API, and the commands of this user, until interrupted.",
        "report": "Write the answers to a list of queries into one HTML file, which opens offline.",
        "watch": "Index folders, then watch them: changes are searchable within seconds.",
        "retry": "Index failed files again (see `bindsearch status --failed`), optionally with other options.",
        "optimize": "Create, extend or rebuild indexes if needed, and tune search parameters.",
        "calibrate": "Fit the match of hits to queries whose answers you know, and keep it in the store.",
        "reindex": "Re-embed everything with another encoder. Searches use the old index until it finishes.",
        "status": "Show collections, items and segments by modality, indexes and failures.",
        "verify": "Check the store's files for consistency and checksums. Changes nothing.",
        "compact": "Repair the store, remove deleted rows and unreferenced files, and compact the catalog.",
        "reshard": "Distribute the items of a sharded store to another number of shards. Nothing is embedded again.",
        "recover": "Rebuild a damaged, missing or outdated catalog from the snapshot that searches use.",
        "doctor": "Check Python, libraries, GPU, codecs, encoders, store and disk; report how to fix each problem.",
        "duplicates": "List identical files, or with --near items that are similar to each other.",
        "forget": "Remove files or folders from the store, with their recorded failures; the files on disk are kept.",
        "relocate": "Change the root of a collection whose folder was moved. Nothing is embedded again.",
        "export": "Write vectors and metadata to a folder, which `import` reads back, or to Qdrant or PostgreSQL.",
        "import": "Import precomputed vectors; "
        "rows with the same path become one item, which replaces an existing one.",
        "merge": "Merge stores into --store (created if missing), without embedding anything.",
        "encoders": "List the encoders: built in, of other packages, pulled, bound, "
        "and known models that can be pulled.",
        "bind": "Bind a new modality to an encoder: train a tower on pairs, and install both as a new encoder.",
        "eval": "Measure an encoder on data sets by published protocols, or a store's indexes and vectors.",
        "bench": "Measure the speed of encoders on this machine.",
        "config": "Show and set defaults of options, and names of stores. Example: bindsearch config set k 20",
        "model": "Download, list and delete models. Example: bindsearch model pull imagebind-huge",
    }
)
"""First paragraph of the help of each command, for the list of commands: it is shown without importing them."""

_SHARED = {
    "encoders": "bench",
    "exchange": "export import merge",
    "index": "optimize reindex retry watch",
    "maintain": "calibrate compact doctor forget recover relocate reshard verify",
    "search": "explain report",
}
"""Commands by the module that they share."""

_MODULES = {name: module for module, names in _SHARED.items() for name in names.split()}
_MODULES |= {"eval": "eval_", "locate": "locate.command"}
_PROGRAMS = frozenset({"bench", "config", "model"})
COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {name: (_MODULES.get(name, name), f"{name}_{'app' if name in _PROGRAMS else 'command'}") for name in SUMMARIES}
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
            module, attribute = COMMANDS[name]
            program = getattr(import_module(f"bindsearch.cli.{module}"), attribute)
            if not isinstance(program, typer.Typer):
                from bindsearch.cli.options import with_option_groups

                function, program = program, typer.Typer(add_completion=False)
                program.command(name, cls=Command)(with_option_groups(function))
            self.data[name] = typer.main.get_command(program)
        return self.data[name]
