"""`bindsearch export`: vectors and their metadata for other programs, as files or in an engine."""

from __future__ import annotations

from typing import Annotated

from bindsearch.cli.options import FilterOptions, JsonOption, StoreOption, ToOption, argument, option
from bindsearch.cli.output import human_bytes, plural, print_json, print_line, print_message
from bindsearch.cli.parse import read_filter
from bindsearch.cli.progress import show_rows


def export_command(
    target: Annotated[
        str,
        argument(
            "TARGET", "Output folder, empty or created; or s3://BUCKET/PATH, qdrant:DIR, qdrant:URL, pgvector:DSN."
        ),
    ] = "",
    layout: Annotated[
        str | None, option("--layout LAYOUT", "Of a folder: parquet (default), or npy (clip-retrieval's layout).")
    ] = None,
    name: Annotated[str, option("--name NAME", "Collection of a Qdrant server, or table.")] = "bindsearch",
    replace: Annotated[bool, option("--replace", "Replace an earlier export to an engine.")] = False,
    to: ToOption = None,
    *,
    options: FilterOptions,
    store: StoreOption = None,
    json: JsonOption = False,
) -> int:
    """Write vectors and metadata to a folder, which `import` reads back, or to Qdrant or PostgreSQL.

    Examples: bindsearch export vectors --to image --where "path like '%2024%'"
    bindsearch export for-clip-retrieval --layout npy --to image
    bindsearch export s3://vectors/2026-11
    bindsearch export pgvector:postgresql://localhost/media --replace
    """
    from bindsearch.errors import UsageError
    from bindsearch.shards.connect import connect

    if not target:
        meant = to if to is not None and ":" in to else "TARGET"
        raise UsageError(f"the target is not an option, --to is for modalities: bindsearch export {meant}")
    with show_rows("exporting") as (on_progress, on_stage):
        done = connect(store).export(
            target,
            layout=layout,
            name=name,
            replace=replace,
            modalities=to,
            filter=read_filter(options),
            on_progress=on_progress,
            on_stage=on_stage,
        )
    counts = {modality.value: n for modality, n in done.vectors.items()}
    if json:
        place = {"engine": done.target, "name": done.name} if done.files is None else {"folder": str(done.target)}
        files = {"notices": [*done.notices]} if done.files is None else {"files": done.files}
        measured = {"size_bytes": done.size_bytes, "took_s": round(done.took_s, 3)}
        print_json({**place, "vectors": counts, **files, **measured})
        return 0
    where_to = f"{done.target}, {done.name}" if done.files is None else plural(done.files, "file")
    size = "" if done.size_bytes is None else f", {human_bytes(done.size_bytes)}"
    print_line(
        f"{', '.join(f'{n} {modality}' for modality, n in counts.items())} in {where_to}{size}, {done.took_s:.1f} s"
    )
    for notice in done.notices:
        print_message(notice)
    return 0
