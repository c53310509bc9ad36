"""Files that were left out of the last runs: path and reason, one Arrow file per collection in the store's folder.

They are what the runs saw, and no part of a generation: a file is replaced as a whole at the end of a run, so a run
that is killed leaves that of the run before it. A damaged file counts as none until the next run on the whole
collection.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bindsearch.arguments import at_and_above
from bindsearch.atomic import atomic_write, make_folder
from bindsearch.small_files import open_regular
from bindsearch.storage.writer import LEFT_OUT

if TYPE_CHECKING:
    import pyarrow as pa

MAX_PARENTS = 100
"""More folders than this are looked up path by path."""

HIDDEN = "hidden"
IGNORED = "named in .bindsearchignore"
LINK_TO_NOTHING = "a link to nothing"
LINK_LOOP = "a loop of links"
LINK_TO_FOLDER = "a link to a folder"
"""Reasons of files and folders that a walk does not enter; the path of a folder ends with a slash."""


def read_left_out(store: Path, collection_id: int) -> pa.Table:
    """Return the files that were left out of a collection, with the columns `rel_path` and `reason`, sorted by path."""
    import pyarrow as pa
    from pyarrow import ipc

    try:
        with open_regular(_path(store, collection_id)) as file:
            return ipc.open_file(file).read_all().select(["rel_path", "reason"]).cast(_schema())
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return _schema().empty_table()


def write_left_out(
    store: Path, collection_id: int, found: Mapping[str, str], are_kept: Callable[[pa.Array], pa.Array] | None
) -> pa.Table:
    """Replace the files that were left out of a collection, and return them all.

    A million of them take 4 MB.

    Args:
        store: the store's folder.
        collection_id: the collection.
        found: reason by path of the files that a run has left out.
        are_kept: returns for earlier paths, string (n,), whether they stay since the run did not look at them, bool
            (n,); none of them is in `found`. None: none stays.
    """
    import pyarrow as pa
    from pyarrow import ipc

    before = read_left_out(store, collection_id)
    table = pa.table([pa.array(column, pa.string()) for column in (found.keys(), found.values())], schema=_schema())
    if are_kept is not None and before.num_rows:
        table = pa.concat_tables([table, before.filter(are_kept(before.column("rel_path").combine_chunks()))])
    table = table.sort_by("rel_path").combine_chunks()
    if not table.equals(before):
        make_folder(store / LEFT_OUT, store)
        options = ipc.IpcWriteOptions(compression="zstd")
        with (
            atomic_write(_path(store, collection_id)) as file,
            ipc.new_file(file, table.schema, options=options) as writer,
        ):
            writer.write_table(table)
    return table


def at_or_below(paths: pa.Array, parents: Collection[str]) -> pa.Array:
    """Return whether each path, string (n,), is one of some relative paths or below it: bool (n,)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if len(parents) > MAX_PARENTS:
        known = {*parents}
        return pa.array(
            [any(above in known for above in at_and_above(path.rstrip("/"))) for path in paths.to_pylist()], pa.bool_()
        )
    found = pa.repeat(pa.scalar(False), len(paths))
    for parent in parents:
        for one in (pc.equal(paths, parent), pc.starts_with(paths, f"{parent}/")):
            found = pc.or_(found, one)
    return found


def forget_left_out(store: Path, collection_id: int) -> None:
    """Delete the entries of a collection that is forgotten."""
    _path(store, collection_id).unlink(missing_ok=True)


def counts_by_reason(table: pa.Table) -> dict[str, int]:
    """Return the number of files by reason, the most frequent first."""
    counts = {entry["values"]: entry["counts"] for entry in table.column("reason").value_counts().to_pylist()}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _path(store: Path, collection_id: int) -> Path:
    return store / LEFT_OUT / f"{collection_id}.arrow"


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([("rel_path", pa.string()), ("reason", pa.string())])
