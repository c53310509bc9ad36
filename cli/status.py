"""`bindsearch status`: contents of a store."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from bindsearch.arguments import shell_command
from bindsearch.cli.options import JsonOption, OnOption, StoreOption, option
from bindsearch.cli.output import human_bytes, picked, plural, print_json, print_line, reasons_line
from bindsearch.indexes.types import point_record
from bindsearch.types import Modality

if TYPE_CHECKING:
    from bindsearch.results import PartitionStatus, Status

SHOWN_K = 10
SHOWN_LEFT_OUT = 1000
SHOWN_LABELS = 5


def status_command(
    failed: Annotated[bool, option("--failed", "List failed files, and those without content, with reasons.")] = False,
    left_out: Annotated[
        bool, option("--left-out", "List files and folders that are not media, hidden or ignored, with reasons.")
    ] = False,
    start: Annotated[int, option("--start N", "With --left-out: number of the first one, from 0.")] = 0,
    most: Annotated[
        int, option("--most N", "With --left-out: maximum number of files that are listed.")
    ] = SHOWN_LEFT_OUT,
    store: StoreOption = None,
    on: OnOption = None,
    json: JsonOption = False,
) -> None:
    """Show collections, items and segments by modality, indexes and failures.

    Examples: bindsearch status --failed
    bindsearch status --left-out
    """
    from bindsearch.shards.connect import connect

    with connect(store, on=on) as opened:
        status = opened.status()
        files = opened.left_out(start=start, most=most) if left_out else []
    if json:
        listed = [picked(file, "path reason") for file in files]
        print_json(_status_json(status) | ({"left_out_files": listed} if left_out else {}))
    elif left_out:
        for file in files:
            print_line(f"{file.path}: {file.reason}")
        if (rest := sum(status.left_out.values()) - start - len(files)) > 0:
            print_line(f"... and {rest} more: --start {start + len(files)}, or --most N")
    elif failed:
        for failure in status.failures + status.without_content:
            print_line(f"{failure.path}: {failure.reason}")
    else:
        _print_status(status)


def _status_json(status: Status) -> dict[str, object]:
    columns = [
        {
            **picked(column, "name probability labels templates modality collections encoder"),
            "weights_digest": column.digest,
            **picked(column, "written items missing"),
        }
        for column in status.columns
    ]
    partitions = [
        {
            **picked(one, "modality rows deleted form"),
            "covered": one.indexed_rows,
            "index_bytes": one.index_bytes,
            "parameters": None if one.parameters is None else asdict(one.parameters),
            "points": [*map(point_record, one.points)],
            "trouble": one.index_error,
        }
        for one in status.partitions
    ]
    shards = [
        {"shard": number, "store": shard.path, **picked(shard, "generation items segments size_bytes")}
        for number, shard in status.shards.items()
    ]
    return {
        "store": status.path,
        **picked(status, "encoder weights_digest"),
        "encoder_options": dict(status.encoder_options),
        **picked(status, "dim generation collections"),
        "items": dict(status.items),
        "segments": dict(status.segments),
        "partitions": partitions,
        "failed": len(status.failures),
        "failures": [picked(file, "path reason") for file in status.failures],
        "without_content": [picked(file, "path reason") for file in status.without_content],
        "left_out": dict(status.left_out),
        "size_bytes": status.size_bytes,
        "columns": columns,
        "shards": shards,
        "missing_shards": [{"shard": number, "reason": why} for number, why in status.missing_shards.items()],
    }


def _print_status(status: Status) -> None:
    size = human_bytes(status.size_bytes)
    print_line(f"store       {status.path.absolute()}  ({size}, generation {status.generation})")
    print_line(f"encoder     {status.encoder}, {status.dim} dimensions")
    for root in status.collections:
        print_line(f"collection  {root}")
    for modality in Modality:
        items, segments = status.items.get(modality, 0), status.segments.get(modality, 0)
        if segments:
            print_line(f"{modality:11} {plural(items, 'item')}, {plural(segments, 'segment')}")
    for number, shard in status.shards.items():
        counts = f"{plural(sum(shard.items.values()), 'item')}, {plural(sum(shard.segments.values()), 'segment')}"
        print_line(f"shard       {number}: {counts}, {human_bytes(shard.size_bytes)}, generation {shard.generation}")
    for number, why in status.missing_shards.items():
        print_line(f"missing     shard {number}, whose files are not counted: {why}")
    for partition in status.partitions:
        _print_index(partition)
    for column in status.columns:
        labels = ", ".join(column.labels[:SHOWN_LABELS]) + (", ..." if len(column.labels) > SHOWN_LABELS else "")
        what = "" if column.modality is None else f"{column.modality} of "
        line = f"column      {column.name}: {what}{plural(column.items, 'item')}, {plural(len(column.labels), 'label')}"
        print_line(f"{line} ({labels}), written {column.written}")
        if column.missing:
            way_out = shell_command("classify", "--write-column", column.name)
            print_line(f"            {plural(column.missing, 'item')} without a class yet: {way_out}")
    if status.without_content:
        print_line(f"no content  {plural(len(status.without_content), 'file')}: bindsearch status --failed")
    if status.left_out:
        print_line(f"left out    {reasons_line(status.left_out)}: bindsearch status --left-out")
    if status.failures:
        print_line(f"failed      {plural(len(status.failures), 'file')}: bindsearch status --failed")


def _print_index(partition: PartitionStatus) -> None:
    """Print the index of a partition with the measured recall@10 and latency of each kind of query."""
    if partition.index_error is not None:
        print_line(f"index       {partition.modality}: not used, searched by exact scan: {partition.index_error}")
    if partition.parameters is None:
        return
    lists = plural(partition.parameters.lists, "list")
    size, tail = human_bytes(partition.index_bytes), plural(partition.rows - partition.indexed_rows, "row")
    print_line(f"index       {partition.modality}: {partition.form}, {lists}, {size}, {tail} not indexed yet")
    for point in partition.points:
        if point.k == SHOWN_K and point.selectivity == 1.0:
            is_measured = point.fallback_source is None
            measured = f"recall {point.recall:.3f}, {point.latency_ms:.2f} ms" if is_measured else "not measured"
            probes = f"{point.probes} of {lists}, rerank {point.rerank}"
            print_line(f"            {point.source:8} -> {partition.modality:8} {measured} ({probes})")
