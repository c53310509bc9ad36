"""Changes of files of settings: one value set or removed, comments and order kept."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bindsearch.arguments import shown
from bindsearch.atomic import atomic_write, make_folder
from bindsearch.errors import UsageError
from bindsearch.small_files import read_small_file
from bindsearch.storage.user_file import MAX_BYTES, read_toml


def set_value(file: Path, place: Sequence[str], value: Any) -> None:
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


def unset_value(file: Path, place: Sequence[str]) -> None:
    """Remove a value from a TOML file. Raises UsageError: it is not there; or as for `set_value`."""
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
