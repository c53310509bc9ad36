"""Completion of values in shells: modalities, columns, indexed paths, names of stores and collections.

Typer calls these functions with what the user has typed so far, in a process that is started for each press of the key.
They read the snapshot that searches read, without a model and without DuckDB, offer a bounded number of values, and
offer nothing where anything fails, since what is printed then would stand in the user's prompt.

Names of files and values of columns come from anywhere, and shells insert what is offered without quoting it (bash) or
evaluate it (zsh), so that only names of harmless characters are offered.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bindsearch.arguments import with_slash

if TYPE_CHECKING:
    from bindsearch.storage.snapshot import Snapshot

MAX_OFFERED = 100
MAX_VALUES = 20
MAX_READ = 20_000
"""Maximum number of items whose values are counted."""

HARMLESS = re.compile(r"[\w@%+=:,./-]+")
COUNTED = frozenset({"artist", "camera", "title"})
"""Columns of items whose values are counted; others of every store are numbers, times and paths."""

_IDENTIFIER = re.compile(r"\w*\Z")
_VALUE = re.compile(r"(?P<column>\w+)\s*(?:=|==|!=|<>|\bI?LIKE\b|\bIN\s*\()\s*'?(?P<start>[\w.,@+-]*)\Z", re.IGNORECASE)

Values = Iterable["str | tuple[str, str]"]
Complete = Callable[[typer.Context, str], Values]


def _quiet(complete: Complete) -> Callable[[typer.Context, str], list[str | tuple[str, str]]]:
    """Return a function that offers at most `MAX_OFFERED` values, and none if anything fails."""

    @wraps(complete)
    def offered(ctx: typer.Context, incomplete: str) -> list[str | tuple[str, str]]:
        try:
            return [*islice(complete(ctx, incomplete), MAX_OFFERED)]
        except Exception:  # of a damaged store, of a file without permission: there is no place to report it
            return []

    return offered


@_quiet
def complete_modalities(ctx: typer.Context, incomplete: str) -> Values:  # noqa: ARG001  (Typer's form)
    """Offer modalities and their everyday names, each once in a list with commas."""
    from bindsearch.search.query import EVERYDAY_NAMES
    from bindsearch.types import Modality

    *given, _ = incomplete.split(",")
    before = "".join(f"{name}," for name in given)
    names = [*Modality, *(f"{name}s" for name, modality in EVERYDAY_NAMES.items() if modality is not Modality.IMU)]
    return [before + name for name in names if name not in given]


def _members(module: str, name: str) -> Complete:
    """Return a function that offers the members of an enumeration, whose module is imported when it is called."""

    @_quiet
    def offered(ctx: typer.Context, incomplete: str) -> Values:  # noqa: ARG001
        return [str(one) for one in getattr(import_module(module), name)]

    return offered


complete_modality = _members("bindsearch.types", "Modality")
complete_rankings = _members("bindsearch.search.query", "Ranking")
complete_matches = _members("bindsearch.types", "LEAST_PROBABILITY")


@_quiet
def complete_encoders(ctx: typer.Context, incomplete: str) -> Values:  # noqa: ARG001
    """Offer the encoder that is always there, and installed models."""
    from bindsearch.encoders.model_store.installed import list_models
    from bindsearch.encoders.registry import LISTED, other_use

    return _harmless([*LISTED, *(model.name for model in list_models() if other_use(model.name) is None)])


@_quiet
def complete_detectors(ctx: typer.Context, incomplete: str) -> Values:  # noqa: ARG001
    """Offer installed detectors."""
    from bindsearch.encoders.model_store.installed import list_models
    from bindsearch.encoders.model_store.source import is_detector

    return _harmless([model.name for model in list_models() if is_detector(model.name)])


@_quiet
def complete_stores(ctx: typer.Context, incomplete: str) -> Values:  # noqa: ARG001
    """Offer the names of stores, and folders of the working folder."""
    from bindsearch.storage.user_file import named_stores

    folder, _, _ = incomplete.rpartition("/")
    place = Path(f"{folder}/").expanduser() if "/" in incomplete else Path()
    before = f"{folder}/" if "/" in incomplete else ""
    here = [f"{before}{path.name}" for path in islice(place.iterdir(), MAX_READ) if path.is_dir()]
    return _harmless([*({} if before else named_stores()), *sorted(here)])


@_quiet
def complete_collections(ctx: typer.Context, incomplete: str) -> Values:  # noqa: ARG001
    """Offer the collections of the store, by name and by path."""
    roots = _snapshot(ctx).manifest.collections.values()
    return _harmless(dict.fromkeys([*(Path(root).name for root in roots), *roots]))


@_quiet
def complete_paths(ctx: typer.Context, incomplete: str) -> Values:
    """Offer the paths of indexed files that start with what is given, relative to the working folder or absolute."""
    import pyarrow.compute as pc

    wanted = os.path.expanduser(incomplete)  # noqa: PTH111  (keeps a final slash)
    start = os.path.join(os.path.abspath(os.path.dirname(wanted)), os.path.basename(wanted))  # noqa: PTH100, PTH118, PTH119, PTH120
    snapshot = _snapshot(ctx)
    items = snapshot.live_tables()[0]
    paths = items.column("rel_path")
    for number, root in snapshot.manifest.collections.items():
        prefix = with_slash(root)
        if start.startswith(prefix) or prefix.startswith(start):
            below = start[len(prefix) :]
            mask = pc.and_(pc.equal(items.column("collection_id"), number), pc.starts_with(paths, below))
            found = sorted(paths.filter(mask).slice(0, MAX_READ).to_pylist())
            yield from _harmless(incomplete + f"{prefix}{path}"[len(start) :] for path in found)


@_quiet
def complete_filter(ctx: typer.Context, incomplete: str) -> Values:
    """Offer columns for the last word of a filter, or after an operator the most frequent values of the column."""
    if value := _VALUE.search(incomplete):
        quoted = incomplete[: value.start("start")].endswith("'")
        before = incomplete[: value.start("start")] + ("" if quoted else "'")
        values = list(_values(ctx, value["column"].lower()))
        # without a quote yet, what is offered must still start with what is typed
        return [f"{before}{one}'" for one in values] if quoted or not value["start"] else []
    word = _IDENTIFIER.search(incomplete)
    before = incomplete[: word.start()] if word else incomplete
    return [(f"{before}{name}", meaning) for name, meaning in _columns(ctx)]


@_quiet
def complete_keys(ctx: typer.Context, incomplete: str) -> Values:
    """Offer the keys of `config set` and `config unset`."""
    from bindsearch.cli.settings.keys import KNOWN, all_keys, dotted_key
    from bindsearch.cli.settings.values import read_user_options
    from bindsearch.storage.user_file import named_stores

    if ctx.command.name == "unset":
        return _harmless(
            [*(dotted_key(*key) for key in read_user_options().values), *map("stores.{}".format, named_stores())]
        )
    if "." not in incomplete:
        groups = {command.split()[0] for command in KNOWN}
        return [*sorted(all_keys()), *(f"{group}." for group in sorted(groups)), "stores."]
    return [dotted_key(command, key) for command, keys in KNOWN.items() for key in keys.split()]


def _harmless(names: Iterable[str]) -> Iterator[str]:
    """Yield the names that mean themselves in every shell."""
    return (name for name in names if HARMLESS.fullmatch(name))


def _snapshot(ctx: typer.Context) -> Snapshot:
    """Return the newest generation of the store that the command line or a setting names."""
    from bindsearch.cli.settings.apply import command_name, setting_of
    from bindsearch.errors import StoreNotFoundError
    from bindsearch.storage.config import resolve_store
    from bindsearch.storage.snapshot import open_snapshot, read_manifest
    from bindsearch.storage.user_file import find_store

    given = ctx.params.get("store")
    if given is None and (setting := setting_of(ctx, command_name(ctx), "store")) is not None:
        given = setting.value
    store = resolve_store(None if given is None else find_store(given))
    manifest = read_manifest(store)
    if manifest is None:
        raise StoreNotFoundError(f"no store at {store}")
    return open_snapshot(store, manifest)


def _columns(ctx: typer.Context) -> Iterator[tuple[str, str]]:
    """Yield the columns of every store and those of the user, with their meanings."""
    from bindsearch.search.sql_filter.columns import DOCUMENTED

    for name, (_, _, meaning) in DOCUMENTED.items():
        yield name, meaning
    try:
        counts = Counter(name for columns in map(json.loads, _column(ctx, "columns")) for name in columns)
    except Exception:  # no store: the columns of every store are known nevertheless
        return
    for name, _ in counts.most_common(MAX_OFFERED):
        if re.fullmatch(r"\w+", name):
            yield name, "from a manifest or sidecar"


def _values(ctx: typer.Context, column: str) -> Iterator[str]:
    """Yield the most frequent values of a column, if it has texts that are few."""
    from bindsearch.types import Modality

    if column in ("modality", "item_modality"):
        yield from Modality
        return
    if column == "collection":
        yield from _harmless(_snapshot(ctx).manifest.collections.values())
        return
    counts: Counter[str] = Counter()
    if column == "extension":
        counts.update(Path(path).suffix.removeprefix(".").lower() for path in _column(ctx, "rel_path"))
    elif column in COUNTED:
        counts.update(_column(ctx, column))
    else:
        own = map(json.loads, _column(ctx, "columns"))
        counts.update(value for columns in own if isinstance(value := columns.get(column), str))
    yield from islice(_harmless(value for value, _ in counts.most_common()), MAX_VALUES)


def _column(ctx: typer.Context, name: str) -> list[Any]:
    """Return the values of a column of the first MAX_READ items that have one."""
    return list(_snapshot(ctx).live_tables()[0].column(name).slice(0, MAX_READ).drop_null().to_pylist())
