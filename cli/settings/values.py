"""Values of options: flag > environment > folder's file > user's file > default; within each, one command > all."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bindsearch.arguments import shown
from bindsearch.cli.settings.files import OptionsFile
from bindsearch.cli.settings.keys import FOLDER_COMMANDS, READ_ELSEWHERE, dotted_key, variable_name
from bindsearch.errors import UsageError

TRUE, FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


EXACT_FLOAT = 2**53
"""Whole numbers below are exact as a float."""


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
    """Return the value that a text is, of a variable or of the command line; several values as in a shell.

    Raises:
        UsageError: the option takes no such value.
    """
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
