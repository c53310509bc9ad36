"""`bindsearch import`: precomputed vectors from files into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bindsearch.cli import options as opts
from bindsearch.cli.options import argument, option
from bindsearch.cli.parse import parse_encoder_options
from bindsearch.cli.progress import print_intake, show_rows
from bindsearch.cli.settings.complete import complete_encoders


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
) -> int:
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
    print_intake(report, as_json=json)
    return 0
