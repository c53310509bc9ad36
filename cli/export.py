"""`bindsearch export`: vectors and their facts as files that other programs read."""

from __future__ import annotations

from typing import Annotated

import typer

from bindsearch.cli.options import (
    CollectionOption,
    JsonOption,
    SinceOption,
    StoreOption,
    ToOption,
    UnderOption,
    UntilOption,
    WhereOption,
)
from bindsearch.cli.output import human_bytes, plural, print_json, print_line
from bindsearch.cli.progress import show_rows


def export_command(
    folder: Annotated[str, typer.Argument(help="Output folder, empty or created; or s3://BUCKET/PATH.", metavar="DIR")],
    layout: Annotated[
        str, typer.Option("--layout", help="parquet, or npy (clip-retrieval's layout).", metavar="LAYOUT")
    ] = "parquet",
    to: ToOption = None,
    where: WhereOption = None,
    under: UnderOption = None,
    collection: CollectionOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> int:
    """Write vectors and metadata to DIR. `import` reads them back.

    Examples: bindsearch export vectors --to image --where "path like '%2024%'"
    bindsearch export for-clip-retrieval --layout npy --to image
    bindsearch export s3://vectors/2026-11
    """
    from bindsearch.search.filter import make_filter
    from bindsearch.store import connect

    filter = make_filter(where=where, folders=under or (), collections=collection or (), since=since, until=until)
    with show_rows("exporting") as (on_progress, _):
        done = connect(store).export(folder, layout=layout, modalities=to, filter=filter, on_progress=on_progress)
    if json:
        print_json(
            {
                "folder": str(done.target),
                "vectors": {modality.value: n for modality, n in done.vectors.items()},
                "files": done.files,
                "size_bytes": done.size_bytes,
                "took_s": round(done.took_s, 3),
            }
        )
        return 0
    counts = ", ".join(f"{n} {modality}" for modality, n in done.vectors.items())
    print_line(f"{counts} in {plural(done.files, 'file')}, {human_bytes(done.size_bytes)}, {done.took_s:.1f} s")
    return 0
