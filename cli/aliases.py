"""Parsing of command lines: former names of commands and options, flags that are given a value, and set defaults.

Former names work, and no help shows them.

The parser takes a former name for the current one: both are one option, which may be repeated under either name, and
errors name the current one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, get_args, get_origin

from typer.core import TyperCommand

from bindsearch.cli.settings.apply import add_origin, apply_settings
from bindsearch.errors import BindSearchError, UsageError

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


OPTIONAL_VALUES: Mapping[str, str] = {"--open": "1", "--preview": "auto"}
"""Values of options that may be given without one: `--open`, `--open 2`, `--open=2`; `--preview`, `--preview=sixel`."""


def current_command(name: str) -> str:
    """Return the current name of a command. The program's `token_normalize_func`: asked for unknown commands only."""
    return FORMER_COMMANDS.get(name, name)


class Command(TyperCommand):
    """Command that takes its options by their former names too, refuses flags with a value, and has settings."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Return the arguments that are left, once the options are parsed.

        Raises:
            UsageError: a flag is given a value, which would be an argument such as a word of a query; or a default
                that is set in a file or variable is wrong.
        """
        apply_settings(ctx, args)
        flags = {name for parameter in self.params if getattr(parameter, "is_flag", False) for name in parameter.opts}
        names = {name for parameter in self.params for name in parameter.opts} - flags
        args = _with_values(args, {name: value for name, value in OPTIONAL_VALUES.items() if name in names})
        for place, word in enumerate(args):
            if word == "--":
                break
            after, later = [*args[place + 1 : place + 3], "", ""][:2]
            flag, equals, value = word.partition("=")
            is_last = not later or later.startswith("-")
            given = value if equals else after if after.lower() in ("true", "false") and is_last else None
            if flag.startswith("--") and flag in flags and given is not None:
                raise UsageError(f"{flag} takes no value, but {given!r} is given: write {flag} alone, or leave it out")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error about a value that was not given on the command line says where it is set."""
        try:
            return super().invoke(ctx)
        except BindSearchError as error:
            add_origin(error, ctx)
            raise

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the arguments and options."""
        return with_plain_values(super().get_params(ctx))

    def make_parser(self, ctx: Any) -> Any:
        """Return the parser of this command's options."""
        options = {name for parameter in self.params for name in parameter.opts}
        former = {before: now for before, now in FORMER_OPTIONS.items() if f"--{now}" in options}
        ctx.token_normalize_func = lambda name: former.get(name, name)
        return super().make_parser(ctx)


def _with_values(args: list[str], defaults: Mapping[str, str]) -> list[str]:
    """Return arguments in which options without a value have that of `defaults`.

    A word after an option is its value if both it and the default are numbers; else it is an argument.
    """
    end = args.index("--") if "--" in args else len(args)
    filled = []
    for word, after in zip(args[:end], [*args[1:end], ""], strict=False):
        default = defaults.get(word)
        has_value = default is None or (default.isdecimal() and after.isdecimal())
        filled.append(word if has_value else f"{word}={default}")
    return filled + args[end:]


def with_plain_values(parameters: list[Any]) -> list[Any]:
    """Return the same parameters of Typer, which take values without its conversion where none is needed.

    Typer imports Pydantic and builds a converter for each option of a command, given or not: 0.1 s. Most options are
    not given, most others are texts, and their defaults have the right type already. If a later Typer does not call
    `get_runtime_param`, or has none, it converts all values itself.
    """
    for parameter in parameters:
        descriptor = getattr(parameter, "type_descriptor", None)
        is_made = "get_runtime_param" in vars(parameter)
        if is_made or descriptor is None or not hasattr(parameter, "get_runtime_param"):
            continue
        info, kind = descriptor.parameter_info, descriptor.annotation
        needs_check = info.parser is not None or info.min is not None or info.max is not None
        one = get_args(kind)[0] if get_origin(kind) is list else kind
        plain = one if one in (str, int, float) and not needs_check else None
        coercion = SimpleNamespace(coerce=partial(_coerce, plain, parameter.get_runtime_param))
        parameter.get_runtime_param = partial(lambda made: made, coercion)
    return parameters


def _coerce(plain: type | None, build: Callable[[], Any], value: Any, param: Any, ctx: Any) -> Any:
    """Return a value in the type of a parameter: unchanged if it has the type `plain`, else as Typer converts it."""
    is_list = param.multiple or param.nargs == -1
    if value is None:
        return () if is_list else None
    if plain is not None:
        if is_list and isinstance(value, list | tuple) and all(type(one) is plain for one in value):
            return [*value]
        if not is_list and type(value) is plain:
            return value
    return build().coerce(value, param=param, ctx=ctx)
