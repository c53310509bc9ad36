"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bindsearch.errors import UsageError
from bindsearch.indexes.types import Form, IndexWishes
from bindsearch.search import query as terms
from bindsearch.search.filter import make_filter
from bindsearch.search.query import Composition, Query, make_query, parse_query

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


def parse_encoder_options(options: list[str] | None) -> dict[str, str | int | float | bool] | None:
    """{"spatial_crops": "3"} from ["spatial_crops=3"]; None from none.

    Raises:
        UsageError: one has no "=".
    """
    parsed: dict[str, str | int | float | bool] = {}
    for option in options or []:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise UsageError(f"--encoder-option {option!r}: expected NAME=VALUE, such as spatial_crops=3")
        parsed[name] = value
    return parsed or None


def read_query(
    *,
    words: str | None,
    text: list[str] | None,
    image: list[Path] | None,
    video: list[Path] | None,
    audio: list[Path] | None,
    depth: list[Path] | None,
    thermal: list[Path] | None,
    imu: list[Path] | None,
    like: list[str] | None,
    query: str | None,
    to: str | None,
    k: int,
    rank: str,
    diverse: float | None,
    where: str | None,
    in_: list[Path] | None,
    collection: list[str] | None,
    since: str | None,
    until: str | None,
    include_query: bool,
) -> Query:
    """The query that the options of `search` and `explain` ask; terms add up.

    Raises:
        UsageError: one of them is wrong.
    """
    chosen = [
        *map(terms.text, [*([] if words is None else [words]), *(text or [])]),
        *map(terms.image, image or []),
        *map(terms.video, video or []),
        *map(terms.audio, audio or []),
        *map(terms.depth, depth or []),
        *map(terms.thermal, thermal or []),
        *map(terms.imu, imu or []),
        *map(terms.like, like or []),
        *([] if query is None else parse_query(query).terms),
    ]
    return make_query(
        Composition(tuple(chosen)),
        to=to,
        k=k,
        rank=rank,
        include_query=include_query,
        filter=make_filter(where=where, folders=in_ or (), collections=collection or (), since=since, until=until),
        diverse=diverse or 0.0,
    )


AUTO = "auto"
MOST_DIGITS = 10
SIZES = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def wished(
    before: Callable[[], IndexWishes],
    index: str | None,
    memory: str | None,
    recall: float | None,
    parameters: list[str] | None,
) -> IndexWishes | None:
    """What is asked of the indexes: what was `before`, with what these options change; None where they change nothing.

    Raises:
        UsageError: one of the options is wrong.
    """
    if index is None and memory is None and recall is None and not parameters:
        return None
    forms = (AUTO, Form.EXACT.value, Form.IVF_PQ.value)
    if index is not None and index not in forms:
        raise UsageError(f"--index {index!r}: choose from {', '.join(forms)}")
    overrides = _parse_parameters(parameters or [])
    wishes = before()
    if index is not None:
        wishes = replace(wishes, form=None if index == AUTO else Form(index))
    if memory is not None:
        wishes = replace(wishes, memory_bytes=None if memory == AUTO else _parse_size(memory))
    if recall is not None:
        wishes = replace(wishes, recall=recall)
    if overrides:
        merged = {**(wishes.overrides or {}), **overrides}
        kept = {name: value for name, value in merged.items() if value is not None}
        wishes = replace(wishes, overrides=kept or None)
    return wishes


def _parse_parameters(parameters: list[str]) -> dict[str, int | None]:
    """{"lists": 512} from ["lists=512"]; None from "lists=auto"."""
    overrides: dict[str, int | None] = {}
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if value != AUTO and not (value.isdecimal() and len(value) < MOST_DIGITS):
            raise UsageError(f"--index-option {parameter!r}: expected NAME=NUMBER, such as lists=512, or NAME=auto")
        overrides[name] = None if value == AUTO else int(value)
    return overrides


def _parse_size(size: str) -> int:
    number, unit = size[:-2].strip(), size[-2:].upper()
    try:
        n = int(float(number) * SIZES[unit])
    except (KeyError, ValueError, OverflowError):
        n = 0
    if n <= 0:
        raise UsageError(f"--memory {size!r}: give a size such as 500MB or 2GB")
    return n


def parse_limits(given: list[str] | None) -> dict[str, float]:
    """{"max_pixels": 5e8} from ["pixels=5e8"].

    Raises:
        UsageError: a value is no number.
    """
    limits = {}
    for text in given or ():
        name, _, number = text.partition("=")
        try:
            limits[f"max_{name.strip().replace('-', '_')}"] = float(number)
        except ValueError:
            raise UsageError(f"--max {text!r}: expected CAP=NUMBER, such as pixels=500000000") from None
    return limits
