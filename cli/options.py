"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", help="The store's folder; default: $BINDSEARCH_STORE, else the user's data directory.", metavar="DIR"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
JsonLinesOption = Annotated[
    bool, typer.Option("--json-lines", help="Print progress and result as JSON objects, one a line, on stdout.")
]
AsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--as", help="Say what files are, such as depth='**/depth/*.png'. Repeatable.", metavar="MODALITY=GLOB"
    ),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--include", help="Look at files that match only; the rest stays as it is. Repeatable.", metavar="GLOB"
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="Look at no file that matches; it stays as it is. Repeatable.", metavar="GLOB"),
]
LimitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--max",
        help="Raise or lower a cap on what a file may ask of the machine, such as pixels=500000000. Repeatable.",
        metavar="CAP=N",
    ),
]
ImuRateOption = Annotated[
    float | None,
    typer.Option("--imu-rate", help="Sample rate of motion files that carry none themselves.", metavar="HZ"),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        help="Where towers and indexes run: auto (a GPU where there is one), cpu, cuda, cuda:N.",
        metavar="D",
    ),
]
EncoderOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder-option",
        help="A preprocessing option of the encoder in a new store, such as spatial_crops=3. Repeatable.",
        metavar="NAME=VALUE",
    ),
]

Words = Annotated[str | None, typer.Argument(help="A text to search with.", metavar="[TEXT]")]
Texts = Annotated[list[str] | None, typer.Option("--text", help="Add a text. Repeatable.", metavar="TEXT")]
Images = Annotated[list[Path] | None, typer.Option("--image", help="Add a picture. Repeatable.", metavar="FILE")]
Videos = Annotated[
    list[Path] | None, typer.Option("--video", help="Add a video (its picture only). Repeatable.", metavar="FILE")
]
Audios = Annotated[list[Path] | None, typer.Option("--audio", help="Add a sound. Repeatable.", metavar="FILE")]
Depths = Annotated[list[Path] | None, typer.Option("--depth", help="Add a depth map. Repeatable.", metavar="FILE")]
Thermals = Annotated[
    list[Path] | None, typer.Option("--thermal", help="Add a thermal picture. Repeatable.", metavar="FILE")
]
Imus = Annotated[list[Path] | None, typer.Option("--imu", help="Add a motion recording. Repeatable.", metavar="FILE")]
Likes = Annotated[
    list[str] | None, typer.Option("--like", help="Add an indexed item, by id or path. Repeatable.", metavar="ITEM")
]
QueryOption = Annotated[
    str | None, typer.Option("--query", help="A sum such as '0.5*image:a.jpg + 0.5*audio:b.wav'.", metavar="EXPR")
]
ToOption = Annotated[
    str | None, typer.Option("--to", help="Modalities to find, such as image,video; default: all.", metavar="M,M")
]
KOption = Annotated[int, typer.Option("-k", help="Number of hits.")]
RankOption = Annotated[str, typer.Option("--rank", help="calibrated, cosine or per-modality.", metavar="RANKING")]
DiverseOption = Annotated[
    float | None,
    typer.Option("--diverse", help="0..1: how much likeness to the hits before counts against one.", metavar="X"),
]
WhereOption = Annotated[
    str | None,
    typer.Option("--where", help="Only what fits, such as \"duration_s > 3 and path like '%2024%'\".", metavar="EXPR"),
]
InOption = Annotated[
    list[Path] | None, typer.Option("--in", help="Only below this folder. Repeatable.", metavar="FOLDER")
]
CollectionOption = Annotated[
    list[str] | None, typer.Option("--collection", help="Only of this collection. Repeatable.", metavar="NAME")
]
SinceOption = Annotated[
    str | None, typer.Option("--since", help="Only files changed since: 2024-01-31, 7d, 12h.", metavar="TIME")
]
UntilOption = Annotated[str | None, typer.Option("--until", help="Only files changed before.", metavar="TIME")]
IncludeQueryOption = Annotated[bool, typer.Option("--include-query", help="Do not leave out the query's own files.")]
IndexOption = Annotated[
    str | None,
    typer.Option("--index", help="Form of the indexes: auto (by size), exact, ivfpq. Remembered.", metavar="FORM"),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--memory",
        help="The most memory for a modality's index, such as 500MB; auto: no limit. Remembered.",
        metavar="SIZE",
    ),
]
RecallOption = Annotated[
    float | None,
    typer.Option("--recall", help="Share of the true nearest to find; default 0.98. Remembered.", metavar="X"),
]
IndexParameterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--index-option", help="A parameter such as lists=512, or lists=auto. Repeatable. Remembered.", metavar="NAME=N"
    ),
]
