"""`bindsearch search`: find anything with anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bindsearch import query as terms
from bindsearch.cli.options import DeviceOption, ImuRateOption, JsonOption, StoreOption
from bindsearch.cli.output import plural, print_json, print_line, print_message, span_label
from bindsearch.query import Composition, Rank, make_query, parse_query

if TYPE_CHECKING:
    from bindsearch.answer import Answer

EXIT_NO_HITS = 1
SHOWN_TEXT_CHARACTERS = 80

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


def search_command(
    words: Annotated[str | None, typer.Argument(help="A text to search with.", metavar="[TEXT]")] = None,
    text: Texts = None,
    image: Images = None,
    video: Videos = None,
    audio: Audios = None,
    depth: Depths = None,
    thermal: Thermals = None,
    imu: Imus = None,
    like: Likes = None,
    query: Annotated[
        str | None,
        typer.Option("--query", help="A sum such as '0.5*image:a.jpg + 0.5*audio:b.wav'.", metavar="EXPR"),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Modalities to find, such as image,video; default: all.", metavar="M,M")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Number of hits.")] = 10,
    rank: Annotated[
        str, typer.Option("--rank", help="calibrated, cosine or per-modality.", metavar="RANKING")
    ] = Rank.CALIBRATED.value,
    include_query: Annotated[
        bool, typer.Option("--include-query", help="Do not leave out the query's own files.")
    ] = False,
    imu_rate: ImuRateOption = None,
    device: DeviceOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
    paths: Annotated[bool, typer.Option("--paths", help="Print only the paths, one a line.")] = False,
) -> int:
    """Find what is near to a text, a file, or a sum of several. All query options add up.

    Examples: bindsearch search "a dog barking"
    bindsearch search --audio bark.wav --to image,video
    bindsearch search --query '0.5*image:fruit.jpg + 0.5*audio:birds.wav' --to image
    """
    from bindsearch.errors import UsageError
    from bindsearch.store import connect

    if json and paths:
        raise UsageError("--json and --paths exclude each other: choose one")
    words_given = [*([] if words is None else [words]), *(text or [])]
    chosen = [
        *map(terms.text, words_given),
        *map(terms.image, image or []),
        *map(terms.video, video or []),
        *map(terms.audio, audio or []),
        *map(terms.depth, depth or []),
        *map(terms.thermal, thermal or []),
        *map(terms.imu, imu or []),
        *map(terms.like, like or []),
        *([] if query is None else parse_query(query).terms),
    ]
    asked = make_query(Composition(tuple(chosen)), to=to, k=k, rank=rank, include_query=include_query)
    with connect(store, device=device) as opened:
        answer = opened.answer(asked, imu_rate_hz=imu_rate)
        held = opened.status().segments if not answer.hits else {}
    if json:
        print_json(answer_json(answer))
    elif paths:
        for hit in answer.hits:
            typer.echo(str(hit.path))
    else:
        _print_hits(answer)
    if not answer.hits:
        searched = sum(held.get(modality, 0) for modality in answer.to)
        print_message(f"no hits: the store holds {plural(searched, 'segment')} of {', '.join(answer.to)}")
        return EXIT_NO_HITS
    return 0


def answer_json(answer: Answer) -> dict[str, object]:
    """The documented form of an answer for programs; what does not apply is null."""
    return {
        "query": {
            "terms": [
                {"modality": term.modality.value, "source": term.source, "weight": term.weight} for term in answer.terms
            ],
            "to": [modality.value for modality in answer.to],
            "k": answer.k,
        },
        "took_ms": round(answer.took_ms, 3),
        "hits": [
            {
                "rank": hit.rank,
                "path": str(hit.path),
                "modality": hit.modality.value,
                "score": round(hit.score, 6),
                "cosine": round(hit.cosine, 6),
                "item_id": hit.item_id,
                "collection": str(hit.collection),
                "start_s": hit.start_s,
                "end_s": hit.end_s,
                "text": hit.text,
            }
            for hit in answer.hits
        ],
    }


def _print_hits(answer: Answer) -> None:
    if answer.hits:
        print_line(f"{'':3}  {'score':>7}  {'cosine':>6}")
    for hit in answer.hits:
        where = " ".join(part for part in (str(hit.path), span_label(hit)) if part)
        print_line(f"{hit.rank:3}  {hit.score:7.3f}  {hit.cosine:6.3f}  {hit.modality:8} {where}")
        if hit.text:
            line = " ".join(hit.text.split())
            shown = line if len(line) <= SHOWN_TEXT_CHARACTERS else line[: SHOWN_TEXT_CHARACTERS - 3] + "..."
            print_line(f"{'':31}{shown}")
