"""Values of options that the user's file, a folder's `.bindsearch.toml` and the environment set.

flag > environment > folder's file > user's file > default; within each, one command > all.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from bindsearch.arguments import is_existing_file, shown
from bindsearch.cli.settings.keys import (
    FOLDER_COMMANDS,
    FOLDER_KEYS,
    KNOWN,
    READ_ELSEWHERE,
    check_key,
    dotted_key,
    variable_name,
)
from bindsearch.errors import UsageError
from bindsearch.storage.user_file import STORE_NAME, read_toml, read_user_file, user_file

FOLDER_FILE = ".bindsearch.toml"
TRUE, FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})
EXACT_FLOAT = 2**53
"""Whole numbers below are exact as a float."""


@dataclass(frozen=True)
class OptionsFile:
    """Options that a file sets by command ("" for all) and key, as TOML has them, and what of it is ignored."""

    path: Path
    values: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def read_user_options() -> OptionsFile:
    """Return the options of the user's file. Raises UsageError: the file cannot be read, or has an unknown key."""
    file = user_file()
    values = dict(_values(read_user_file().get("options", {}), file))
    for (command, key), value in values.items():
        if key == "store":
            check_store(value, f"{file}: {dotted_key(command, key)}")
    return OptionsFile(file, values)


def check_store(value: object, where: str) -> None:
    """Check that a store in a file is a name or an absolute path: the same from every folder; else raise UsageError."""
    if isinstance(value, str) and not (STORE_NAME.fullmatch(value) or value.startswith(("/", "~"))):
        raise UsageError(f"{where} is {shown(value)}: expected the name of a store or an absolute path")


def read_folder_options(start: Path | None = None) -> OptionsFile | None:
    """Return the options of the nearest `.bindsearch.toml` that has a table [options]; None if there is none.

    It is looked for in the folder `start`, by default the working folder, and those above it.

    Raises:
        UsageError: a file cannot be read, or has an unknown key.
    """
    for file in folder_files(start):
        if (owner := _other_owner(file)) is not None:
            if _may_have_options(file):
                return OptionsFile(file, {}, (f"{file} is ignored: its owner is another user ({owner})",))
            continue
        table = read_toml(file).get("options")
        if table is not None:
            return _harmless(file, table)
    return None


def folder_files(start: Path | None = None) -> Iterator[Path]:
    """Yield the files `.bindsearch.toml` of a folder and of those above it, nearest first."""
    try:
        folder = (start or Path.cwd()).absolute()
    except OSError:  # the working folder has been deleted
        return
    for place in (folder, *folder.parents):
        file = place / FOLDER_FILE
        if is_existing_file(file):
            yield file


def _other_owner(file: Path) -> int | None:
    """Return the user id of a file's owner, if it is neither this user nor root; None elsewhere.

    In a folder that others may write to, such as /tmp, somebody else's file must not act on this user's commands.
    """
    if not hasattr(os, "getuid"):
        return None
    owner = file.stat().st_uid
    return owner if owner not in (0, os.getuid()) else None


def _may_have_options(file: Path) -> bool:
    """Return whether a file has a table [options], or cannot be read: another user must not stop commands with it."""
    try:
        return "options" in read_toml(file)
    except UsageError:
        return True


def _harmless(file: Path, table: Any) -> OptionsFile:
    """Return the options of a folder's file, from its table [options], without what a folder may not set."""
    values, notices = {}, []
    for (command, key), value in _values(table, file):
        if key in FOLDER_KEYS and (not command or command in FOLDER_COMMANDS):
            values[command, key] = value
        else:
            shown_key = dotted_key(command, key)
            notices.append(
                f"{file}: {shown_key} is ignored, since a folder may not set it: "
                f"`bindsearch config set {shown_key} VALUE` sets it for you"
            )
    return OptionsFile(file, values, tuple(notices))


def _values(table: Any, file: Path, command: str = "") -> Iterator[tuple[tuple[str, str], Any]]:
    """Yield command, key and value of a table [options]. Raises UsageError: it is no table, or a key is unknown."""
    where = f"{file}: [options{''.join(f'.{name}' for name in command.split())}]: "
    if not isinstance(table, dict):
        raise UsageError(f"{file}: options is {shown(table)}: expected a table of OPTION = VALUE")
    for name, value in table.items():
        inner = f"{command} {name}".strip()
        if isinstance(value, dict):
            if not any(known == inner or known.startswith(f"{inner} ") for known in KNOWN):
                check_key(inner, "", where)
            yield from _values(value, file, inner)
        else:
            check_key(command, name, where)
            yield (command, name), value


class Source(StrEnum):
    """Places that values come from."""

    ENVIRONMENT = "environment"
    FOLDER = "folder"
    USER = "user"
    DEFAULT = "default"


@dataclass(frozen=True)
class Setting:
    """Value of an option, and where it is from: the variable or file, empty for a default, and the key there."""

    value: Any
    source: Source
    name: str
    key: str

    def __str__(self) -> str:
        return f"${self.name}" if self.source is Source.ENVIRONMENT else f"{self.key} in {self.name}"


def settings_of(
    command: str, key: str, option: Any, folder: OptionsFile | None, user: OptionsFile, environ: Mapping[str, str]
) -> Iterator[Setting]:
    """Yield the values that an option is given outside of the command line, the one that decides first.

    The command "" is what is set for all commands; empty variables of the environment are not set.

    Raises:
        UsageError: a value has the wrong type; the message says where it is.
    """
    scopes = [command, ""] if command else [""]
    for scope in scopes:
        name = variable_name(scope, key)
        if (text := environ.get(name)) and name not in READ_ELSEWHERE:
            yield Setting(parse_value(option, text, f"${name}"), Source.ENVIRONMENT, name, dotted_key(scope, key))
    for file, source in ((folder, Source.FOLDER), (user, Source.USER)):
        if file is None or (source is Source.FOLDER and command not in (*FOLDER_COMMANDS, "")):
            continue
        for scope in scopes:
            if (scope, key) in file.values:
                written = dotted_key(scope, key)
                value = check_value(option, file.values[scope, key], f"{file.path}: {written}")
                yield Setting(value, source, str(file.path), written)


def check_value(option: Any, value: Any, where: str) -> Any:
    """Return a value of a TOML file as an option takes it. Raises UsageError: it has another type."""
    kind = option.type_descriptor.annotation
    if option.is_flag:
        is_right, expected = isinstance(value, bool), "true or false"
    elif option.multiple:
        value = [value] if isinstance(value, str) else value
        is_right = isinstance(value, list) and all(isinstance(one, str) for one in value)
        expected = "a text or a list of texts"
    elif isinstance(value, bool):
        is_right, expected = False, {int: "a whole number", float: "a number"}.get(kind, "a text")
    elif kind is int:
        is_right, expected = isinstance(value, int), "a whole number"
    elif kind is float:
        is_right, expected = isinstance(value, int | float), "a number"
        value = float(value) if isinstance(value, int) and abs(value) < EXACT_FLOAT else value
    else:
        is_right, expected = isinstance(value, str | int | float), "a text"
        value = str(value) if is_right else value
    if not is_right:
        raise UsageError(f"{where} is {shown(value)}: expected {expected}")
    return value


def parse_value(option: Any, text: str, where: str) -> Any:
    """Return the value that a text is, several as in a shell. Raises UsageError: the option takes no such value."""
    kind = option.type_descriptor.annotation
    value: Any = text
    try:
        if option.is_flag:
            value = True if text.lower() in TRUE else False if text.lower() in FALSE else text
        elif option.multiple:
            value = shlex.split(text)
        elif kind in (int, float):
            value = kind(text)
    except ValueError as error:
        if option.multiple:
            raise UsageError(f"{where} is {shown(text)}: {error}") from None
    return check_value(option, value, where)
