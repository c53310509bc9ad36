"""`bindsearch config`: show, set and remove defaults of options, and names of stores."""

from __future__ import annotations

import json as json_format
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from bindsearch.arguments import shown
from bindsearch.atomic import atomic_write, make_folder
from bindsearch.cli.aliases import Command
from bindsearch.cli.options import JsonOption, argument, option
from bindsearch.cli.output import picked, print_json, print_line, print_notices
from bindsearch.cli.settings.complete import complete_keys
from bindsearch.cli.settings.keys import (
    FOLDER_COMMANDS,
    FOLDER_KEYS,
    KNOWN,
    PREFIX,
    dotted_key,
    settable_options,
    split_key,
    variable_name,
)
from bindsearch.cli.settings.values import (
    FOLDER_FILE,
    OptionsFile,
    Setting,
    Source,
    check_store,
    check_value,
    folder_files,
    parse_value,
    read_folder_options,
    read_user_options,
    settings_of,
)
from bindsearch.errors import BindSearchError, StoreNotFoundError, UsageError
from bindsearch.small_files import read_small_file
from bindsearch.storage.user_file import (
    MAX_BYTES,
    check_named_store,
    named_stores,
    read_toml,
    read_user_file,
    user_file,
)

OTHER_VARIABLES = frozenset(PREFIX + name for name in ("CACHE", "CONFIG", "CORES", "DEBUG", "MODELS", "OFFLINE"))
"""Variables that set no option."""

STORES = "stores."
QUERY_KEYS = frozenset({"diversity", "k", "min-match", "ranking", "to"})
"""Keys whose values are checked as those of a query."""

config_app = typer.Typer(
    name="config",
    help="Show and set defaults of options, and names of stores. Example: bindsearch config set k 20",
    no_args_is_help=True,
)
KeyArgument = Annotated[
    str,
    argument(
        "KEY",
        "Option, such as k; option of one command, such as search.k; or stores.NAME.",
        complete_keys,
        show_default=False,
    ),
]
FolderOption = Annotated[
    bool, option("--folder", f"Use {FOLDER_FILE} of the working folder instead of the user's file.")
]


@config_app.command("show", cls=Command)
def show_command(
    ctx: typer.Context,
    all_: Annotated[bool, option("--all", "List every option of every command.")] = False,
    json: JsonOption = False,
) -> None:
    """Show what is set, and where: in the environment, in a folder's file or in the user's file.

    The command line overrides them all. A value for one command overrides that for all, in the same place.

    Examples: bindsearch config show
    bindsearch config show --all --json
    """
    folder, user = read_folder_options(), read_user_options()
    commands = dict(_commands(ctx.find_root()))
    rows = list(_rows(commands, folder, user, every=all_))
    stores = [_store_state(name, path) for name, path in sorted(named_stores().items())]
    notices = [*(folder.notices if folder else ()), *_unknown_variables()]
    if json:
        files = {"user_file": str(user.path), "folder_file": str(folder.path) if folder else None}
        values = [_row_json(key, settings) for key, settings in rows]
        print_json({**files, "values": values, "stores": stores, "notices": notices})
        return
    texts = [f"{key} = {_shown_value(settings[0].value)}" for key, settings in rows]
    width = min(max(map(len, texts), default=0), 60)
    for text, (_, settings) in zip(texts, rows, strict=True):
        print_line(f"{text:{width}}  {_origin(settings)}")
    for store in stores:
        print_line(f"store {store['name']}: {store['path']} ({store['error'] or store['encoder']})")
    if not rows and not stores:
        print_line("nothing is set: `bindsearch config set KEY VALUE`, such as `bindsearch config set k 20`")
    print_notices(notices)


@config_app.command("path", cls=Command)
def path_command() -> None:
    """Print the files that options are read from: the user's, and those of the working folder and above it.

    Example: bindsearch config path
    """
    file = user_file()
    print_line(f"user    {file}" + ("" if file.exists() else " (does not exist)"))
    used = read_folder_options()
    for other in folder_files():
        is_used = used is not None and used.path == other
        print_line(f"folder  {other}" + ("" if is_used else " (not used)" if used else " (has no [options])"))


@config_app.command("set", cls=Command)
def set_command(
    ctx: typer.Context,
    key: KeyArgument,
    value: Annotated[list[str], argument("VALUE...", "Value; several for a repeatable option.", show_default=False)],
    folder: FolderOption = False,
) -> None:
    """Set the default of an option for all commands that have it, or for one; or the folder of a named store.

    Comments and the order of the file are kept.

    Examples: bindsearch config set k 20
    bindsearch config set search.to image,video --folder
    bindsearch config set stores.photos ~/search/photos
    """
    if key.startswith(STORES):
        _refuse(folder, key)
        if len(value) != 1:
            raise UsageError(f"{key}: give one folder, not {len(value)}")
        name = key.removeprefix(STORES)
        path = check_named_store(name, os.path.abspath(Path(value[0]).expanduser()), key)  # noqa: PTH100
        read_user_file()
        _set_value(user_file(), ("stores", name), str(path))
        return
    command, name = split_key(key)
    if folder and not (name in FOLDER_KEYS and (not command or command in FOLDER_COMMANDS)):
        _refuse(folder, key)
    option = next(
        options[name]
        for one, options in _commands(ctx.find_root())
        if name in options and (one == command or not command)
    )
    if option.multiple:
        checked: Any = check_value(option, value, key)
    elif len(value) != 1:
        raise UsageError(f"{key}: give one value, not {len(value)}")
    else:
        checked = parse_value(option, value[0], key)
    if name == "store":
        check_store(checked, key)
    if name in QUERY_KEYS:
        from bindsearch.cli.parse import parse_match
        from bindsearch.search.query import make_query, text

        meant: Any = parse_match(checked) if name == "min-match" else checked
        make_query(text("a"), **{name.replace("-", "_"): meant})  # raises if no query can have it
    _set_value(_file(folder), ("options", *command.split(), name), checked)


@config_app.command("unset", cls=Command)
def unset_command(key: KeyArgument, folder: FolderOption = False) -> None:
    """Remove a default that `config set` has set, or the name of a store.

    Examples: bindsearch config unset search.k
    bindsearch config unset stores.photos
    """
    if key.startswith(STORES):
        _unset_value(_file(folder), ("stores", key.removeprefix(STORES)))
    else:
        _unset_value(_file(folder), ("options", *key.removeprefix("options.").split(".")))


def _file(folder: bool) -> Path:
    return Path.cwd() / FOLDER_FILE if folder else user_file()


def _refuse(folder: bool, key: str) -> None:
    if folder:
        keys = ", ".join(sorted(FOLDER_KEYS))
        raise UsageError(f"a folder may not set {key}, only {keys}, for search, explain and report: leave --folder out")


def _commands(root: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each command that has settings, and its options by key; `root` is the program's context."""
    for command in KNOWN:
        group: Any = root.command
        for name in command.split():
            group = group.get_command(root, name)
        yield command, settable_options(command, group.params)


def _rows(
    commands: Mapping[str, Mapping[str, Any]], folder: OptionsFile | None, user: OptionsFile, *, every: bool
) -> Iterator[tuple[str, list[Setting]]]:
    """Yield keys with their settings, the one that decides first: those that are set, or with `every` all."""
    general: dict[str, Any] = {}
    for options in commands.values():
        general = {**options, **general}
    scopes = commands if every else {"": dict(sorted(general.items())), **commands}
    for command, options in scopes.items():
        for key, declared in options.items():
            found = list(settings_of(command, key, declared, folder, user, os.environ))
            if every:
                yield dotted_key(command, key), [*found, Setting(declared.default, Source.DEFAULT, "", "")]
            elif any(setting.key == dotted_key(command, key) for setting in found):
                yield dotted_key(command, key), found


def _row_json(key: str, settings: list[Setting]) -> dict[str, object]:
    command, _, option = key.rpartition(".")
    first, *others = ({**picked(setting, "value source"), "name": setting.name or None} for setting in settings)
    return {"key": key, "command": command.replace(".", " ") or None, "option": option, **first, "overrides": others}


def _origin(settings: list[Setting]) -> str:
    """Return where a value is from, and which values it overrides, in words."""
    first, *others = settings
    text = "default" if first.source is Source.DEFAULT else str(first)
    overridden = [other for other in others if other.source is not Source.DEFAULT]
    return text + "".join(f"; overrides {_shown_value(other.value)} of {other}" for other in overridden)


def _shown_value(value: Any) -> str:
    """Return a value as in TOML, which has the texts of JSON; a dash for none."""
    return "-" if value is None else json_format.dumps(value, ensure_ascii=False)


def _unknown_variables() -> Iterable[str]:
    """Yield a notice for each variable of the environment that is named like an option's and is none."""
    from difflib import get_close_matches

    known = {variable_name(command, key) for command, keys in KNOWN.items() for key in keys.split()}
    known |= {variable_name("", key) for keys in KNOWN.values() for key in keys.split()} | OTHER_VARIABLES
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            near = get_close_matches(name, known, n=1)
            yield f"${name} is not used: " + (f"did you mean ${near[0]}?" if near else "no option has this name")


def _store_state(name: str, path: Path) -> dict[str, str | None]:
    """Return what a named store is: its encoder, or why it has none."""
    from bindsearch.storage.config import read_config

    state: dict[str, str | None] = {"name": name, "path": str(path), "encoder": None, "error": None}
    try:
        state["encoder"] = read_config(path).encoder
    except StoreNotFoundError:
        state["error"] = "there is no store yet"
    except BindSearchError as error:
        state["error"] = str(error)
    return state


def _set_value(file: Path, place: Sequence[str], value: Any) -> None:
    """Set the value at a place, the names of tables and the key, in a TOML file, which is created if it is missing.

    Raises:
        UsageError: the file is not valid TOML, cannot be written, or has another value where a table is needed.
    """
    import tomlkit

    with _document(file) as table:
        for name in place[:-1]:
            if name not in table:
                table[name] = tomlkit.table()
            table = table[name]
            if not isinstance(table, dict):
                raise UsageError(f"{file}: {name} is {shown(table)}: expected a table")
        if isinstance(table.get(place[-1]), dict):
            raise UsageError(f"{file}: {place[-1]} is a table: set {place[-1]}.{place[-1]}")
        table[place[-1]] = value


def _unset_value(file: Path, place: Sequence[str]) -> None:
    """Remove a value from a TOML file. Raises UsageError: it is not there; or as for `_set_value`."""
    with _document(file) as table:
        for name in place[:-1]:
            table = table.get(name, {}) if isinstance(table, dict) else {}
        if not isinstance(table, dict) or place[-1] not in table:
            raise UsageError(f"{'.'.join(place[1:])} is not set in {file}: `bindsearch config show` lists what is set")
        del table[place[-1]]


@contextmanager
def _document(file: Path) -> Iterator[Any]:
    """Yield a TOML document to change, and write it in one step; the file that a link leads to keeps its mode.

    Raises:
        UsageError: the file cannot be read or written, or its form cannot be kept.
    """
    import tomllib

    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    read_toml(file)  # raises if it is not valid
    target = Path(os.path.realpath(file))
    try:
        text = read_small_file(target, MAX_BYTES).decode("utf-8-sig") if target.exists() else ""
        document = tomlkit.parse(text)
        yield document
        changed = tomlkit.dumps(document)
        if tomllib.loads(changed) != document.unwrap():
            raise UsageError(f"{file} has a form that cannot be changed here: edit it by hand")
        make_folder(target.parent, Path(target.anchor))
        mode = target.stat().st_mode & 0o777 if target.exists() else None
        with atomic_write(target) as written:
            if mode is not None:
                os.fchmod(written.fileno(), mode)
            written.write(changed.encode())
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror or error}") from error
    except (TOMLKitError, ValueError) as error:
        raise UsageError(f"{file} cannot be changed ({error}): edit it by hand") from error
