"""`bindsearch import`: precomputed vectors from files into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bindsearch.cli.options import DeviceOption, EncoderOptions, JsonOption, OptimizeOption, StoreOption
from bindsearch.cli.parse import parse_encoder_options
from bindsearch.cli.progress import print_intake, show_rows
from bindsearch.cli.settings.complete import complete_encoders


def import_command(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Output of `export` or clip-retrieval, .parquet or .npy files; or s3://...", metavar="PATH..."
        ),
    ],
    root: Annotated[
        Path | None,
        typer.Option("--root", help="Root folder of the items.", metavar="DIR"),
    ] = None,
    modality: Annotated[
        str | None, typer.Option("--modality", help="Modality, if not given in the file.", metavar="M")
    ] = None,
    vector_column: Annotated[
        str | None,
        typer.Option("--vector-column", help="Column of vectors; default: the only list column.", metavar="NAME"),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Encoder that made the vectors, for a new store.", metavar="NAME", autocompletion=complete_encoders
        ),
    ] = None,
    encoder_option: EncoderOptions = None,
    device: DeviceOption = "auto",
    optimize: OptimizeOption = True,
    store: StoreOption = None,
    json: JsonOption = False,
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
