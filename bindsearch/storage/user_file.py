"""The user's own file of settings, `config.toml` in their configuration folder, and the stores that it names.

    [options]
    k = 20
    store = "photos"

    [options.search]
    ranking = "z"

    [stores]
    photos = "~/search/photos"

A named store is defined in the table [stores], or is a store in the folder `stores` of the user's data directory. The
options are defaults of commands (cli/settings).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from bindsearch.arguments import did_you_mean, is_existing_file, shown
from bindsearch.errors import UsageError
from bindsearch.small_files import read_small_file

FILE_VARIABLE = "BINDSEARCH_CONFIG"
MAX_BYTES = 1 << 20
MAX_LISTED = 1000
"""Maximum number of folders of the data directory that are looked at for stores."""

STORE_NAME = re.compile(r"\w[\w.-]{0,63}")


def user_file() -> Path:
    """Return the path of the user's file: $BINDSEARCH_CONFIG, else `config.toml` in the user's configuration folder."""
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named).expanduser()
    from platformdirs import user_config_path

    return user_config_path("bindsearch", appauthor=False) / "config.toml"


def read_toml(file: Path) -> dict[str, Any]:
    """Return the content of a TOML file; empty if there is no such file.

    Raises:
        UsageError: it cannot be read, is not a regular file of at most `MAX_BYTES`, or is not valid TOML.
    """
    try:
        raw = read_small_file(file, MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {file}: {reason}") from error
    import tomllib

    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not valid TOML: {error}") from error


def read_user_file() -> dict[str, Any]:
    """Return the tables of the user's file; empty if there is none.

    Raises:
        UsageError: as for `read_toml`, or it has a table of another name.
    """
    file = user_file()
    content = read_toml(file)
    for name in content.keys() - {"options", "stores"}:
        near = did_you_mean(name, ("options", "stores"))
        raise UsageError(f"{file}: unknown key {shown(name)}: {near}expected [options] or [stores]")
    return content


def named_stores() -> dict[str, Path]:
    """Return the folders of the named stores by name: those of the user's file first, which may not exist yet.

    Raises:
        UsageError: as for `read_user_file`, or a name or a path of the table [stores] is wrong.
    """
    return {**_stores_in_data_folder(), **_defined_stores()}


def _defined_stores() -> dict[str, Path]:
    file = user_file()
    table = read_user_file().get("stores", {})
    if not isinstance(table, dict):
        raise UsageError(f'{file}: stores is {shown(table)}: expected a table of NAME = "/path"')
    return {name: check_named_store(name, path, f"{file}: [stores]") for name, path in table.items()}


def check_named_store(name: str, path: object, where: str) -> Path:
    """Return the folder of a named store.

    Raises:
        UsageError: the name has other characters than letters, digits and `_.-`, or the path is not absolute.
    """
    if not STORE_NAME.fullmatch(name):
        raise UsageError(f"{where}: the name {shown(name)}: expected at most 64 letters, digits, '_', '.' and '-'")
    try:
        folder = Path(path).expanduser() if isinstance(path, str) else Path()
    except RuntimeError as error:
        raise UsageError(f"{where}: {name} is {shown(path)}: {error}") from None
    if not folder.is_absolute() or "\0" in str(folder):
        raise UsageError(f"{where}: {name} is {shown(path)}: expected an absolute path, such as /data/store or ~/store")
    return folder


def find_store(given: str) -> Path:
    """Return the folder that a text names: a path, or the name of a named store.

    A text with a slash, or with a dot or "~" at its start, is a path. Another one is the name of a store, if there is
    one of this name, else a path in the working folder.

    Raises:
        UsageError: both are there and differ; or as for `named_stores`.
    """
    path = Path(given)
    if not STORE_NAME.fullmatch(given):
        return path
    candidates = {
        "the named store": _defined_stores().get(given),
        "the store of the data directory": _stores_in_data_folder().get(given),
        "the store of the working folder": path.absolute() if is_existing_file(path / "store.json") else None,
    }
    there = {what: folder for what, folder in candidates.items() if folder is not None}
    if len({os.path.realpath(folder) for folder in there.values()}) > 1:
        found = " and ".join(f"{what} ({folder})" for what, folder in there.items())
        raise UsageError(f"the store {given!r} is ambiguous: there are {found}: give a path, such as ./{given}")
    return next(iter(there.values()), path)


def _stores_in_data_folder() -> dict[str, Path]:
    """Return the stores in the folder `stores` of the user's data directory, by name."""
    from itertools import islice

    from platformdirs import user_data_path

    try:
        folders = [*islice((user_data_path("bindsearch", appauthor=False) / "stores").iterdir(), MAX_LISTED)]
    except OSError:  # there are none
        return {}
    named = [folder for folder in sorted(folders) if STORE_NAME.fullmatch(folder.name)]
    return {folder.name: folder for folder in named if is_existing_file(folder / "store.json")}
