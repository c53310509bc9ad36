"""The commands that bring vectors into a store and out of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from bindsearch.cli import options as opts
from bindsearch.cli.options import argument, option
from bindsearch.cli.output import human_bytes, picked, plural, print_json, print_line, print_message, print_notices
from bindsearch.cli.parse import parse_encoder_options, read_filter
from bindsearch.cli.progress import show_rows
from bindsearch.cli.settings.complete import complete_encoders
from bindsearch.errors import UsageError

if TYPE_CHECKING:
    from bindsearch.operations.exchange.vector_import import ImportReport


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
    to: opts.ToOption = None,
    *,
    options: opts.FilterOptions,
    store: opts.StoreOption = None,
    json: opts.JsonOption = False,
) -> None:
    """Write vectors and metadata to a folder, which `import` reads back, or to Qdrant or PostgreSQL.

    Examples: bindsearch export vectors --to image --where "path like '%2024%'"
    bindsearch export for-clip-retrieval --layout npy --to image
    bindsearch export s3://vectors/2026-11
    bindsearch export pgvector:postgresql://localhost/media --replace
    """
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
        measured = {"size_bytes": done.size_bytes, "took_s": round(done.took_s, 3)}
        if done.files is None:
            of_engine = {"engine": done.target, "name": done.name, "vectors": counts, "notices": [*done.notices]}
            print_json({**of_engine, **measured})
        else:
            print_json({"folder": str(done.target), "vectors": counts, "files": done.files, **measured})
        return
    where_to = f"{done.target}, {done.name}" if done.files is None else plural(done.files, "file")
    size = "" if done.size_bytes is None else f", {human_bytes(done.size_bytes)}"
    print_line(
        f"{', '.join(f'{n} {modality}' for modality, n in counts.items())} in {where_to}{size}, {done.took_s:.1f} s"
    )
    for notice in done.notices:
        print_message(notice)


def import_command(
    paths: Annotated[
        list[str], argument("PATH...", "Output of `export` or clip-retrieval, .parquet or .npy files; or s3://...")
    ],
    root: Annotated[Path | None, option("--root DIR", "Root folder of the items.")] = None,
    modality: Annotated[str | None, option("--modality M", "Modality, if not given in the file.")] = None,
    vector_column: Annotated[
        str | None, option("--vector-column NAME", "Column of vectors; default: the only list column.")
    ] = None,
    encoder: Annotated[
        str | None, option("--encoder NAME", "Encoder that made the vectors, for a new store.", complete_encoders)
    ] = None,
    encoder_option: opts.EncoderOptions = None,
    device: opts.DeviceOption = "auto",
    optimize: opts.OptimizeOption = True,
    store: opts.StoreOption = None,
    json: opts.JsonOption = False,
) -> None:
    """Import precomputed vectors; rows with the same path become one item, which replaces an existing one.

    Examples: bindsearch import vectors --store copy
    bindsearch import laion --encoder openclip:ViT-B-32/openai --root /data/laion --store laion-store
    """
    from bindsearch.shards.connect import connect

    with show_rows("importing") as (on_progress, on_stage):
        opened = connect(store, encoder=encoder, encoder_options=parse_encoder_options(encoder_option), device=device)
        report = opened.import_vectors(
            *paths,
            root=root,
            modality=modality,
            vector_column=vector_column,
            optimize=optimize,
            on_progress=on_progress,
            on_stage=on_stage,
        )
    _print_intake(report, as_json=json)


def merge_command(
    stores: Annotated[list[str], argument("STORE...", "Stores of the same encoder, also s3://BUCKET/PATH.")],
    device: opts.DeviceOption = "auto",
    optimize: opts.OptimizeOption = True,
    store: opts.StoreOption = None,
    json: opts.JsonOption = False,
) -> None:
    """Merge stores into --store (created if missing), without embedding anything.

    If a file is in several stores, the newest content is kept.

    Example: bindsearch merge old new --store both
    """
    from bindsearch.shards.connect import connect

    with show_rows("merging") as (on_progress, on_stage):
        report = connect(store, device=device).merge(
            *stores, optimize=optimize, on_progress=on_progress, on_stage=on_stage
        )
    _print_intake(report, as_json=json)


def _print_intake(report: ImportReport, *, as_json: bool) -> None:
    """Return what an import or a merge has done."""
    print_notices(report.notices)
    if as_json:
        data: dict[str, Any] = {"added": report.added, "replaced": report.replaced, "kept": report.unchanged}
        indexes = [{"modality": one.modality, "work": one.need.work.value} for one in report.optimized]
        data |= {**picked(report, "vectors failures notices"), "indexes": indexes}
        print_json({**data, "took_s": round(report.took_s, 3)})
        return
    failures = f", {plural(report.failures, 'failure')} recorded" if report.failures else ""
    print_line(
        f"{report.added} added, {report.replaced} replaced, {report.unchanged} kept{failures}: "
        f"{plural(report.vectors, 'vector')} in {report.took_s:.1f} s"
    )
