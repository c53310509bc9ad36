"""Defaults of the command that is run, from the environment and from files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bindsearch.cli.output import print_notices
from bindsearch.cli.settings.keys import FOLDER_COMMANDS, settable_options

if TYPE_CHECKING:
    from bindsearch.cli.settings.values import Setting

IN_META = "bindsearch.settings"
"""Key of the settings in `Context.meta`."""


def command_name(ctx: Any) -> str:
    """Return the name of a command without that of the program, such as "model pull"."""
    names: list[str] = []
    while ctx.parent is not None:
        names.insert(0, ctx.command.name or ctx.info_name)
        ctx = ctx.parent
    return " ".join(names)


def apply_settings(ctx: Any, args: Sequence[str]) -> None:
    """Set the defaults of a command's options; what is ignored is printed, where it would have had an effect.

    The commands that show and change settings have none themselves, so that they can repair a file; and a help text is
    not refused because of one.

    Raises:
        UsageError: a file cannot be read, a key is unknown, or a value has the wrong type.
    """
    given = args[: args.index("--")] if "--" in args else args
    command = command_name(ctx)
    if ctx.resilient_parsing or command.split()[:1] == ["config"] or {*given} & {*ctx.help_option_names}:
        return
    from bindsearch.cli.settings.values import read_folder_options, read_user_options, settings_of

    folder, user = read_folder_options(), read_user_options()
    if folder is not None and command in FOLDER_COMMANDS:
        print_notices(folder.notices)
    found: dict[str, Setting] = {}
    for key, option in settable_options(command, ctx.command.params).items():
        setting = next(settings_of(command, key, option, folder, user, os.environ), None)
        if setting is not None:
            found[option.name] = setting
    ctx.default_map = {name: setting.value for name, setting in found.items()}
    ctx.meta[IN_META] = found


def setting_of(ctx: Any, command: str, key: str) -> Setting | None:
    """Return the setting that decides on an option of a command; None: it is not set."""
    from bindsearch.cli.settings.values import read_folder_options, read_user_options, settings_of

    option = settable_options(command, ctx.command.params)[key]
    return next(settings_of(command, key, option, read_folder_options(), read_user_options(), os.environ), None)


def add_origin(error: Exception, ctx: Any) -> None:
    """Add a note to an error about a value that was not given on the command line: where it is set."""
    for name, setting in ctx.meta.get(IN_META, {}).items():
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "DEFAULT_MAP" and repr(setting.value) in str(error):
            error.add_note(f"set by {setting}")
