"""Options that several commands share, and groups of them: data classes whose fields are options of a command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from bindsearch.cli.settings.complete import (
    complete_collections,
    complete_filter,
    complete_matches,
    complete_modalities,
    complete_paths,
    complete_rankings,
    complete_stores,
)
from bindsearch.cli.settings.store_name import store_folder

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Store folder, or name of a store; default: $BINDSEARCH_STORE, else the user's data directory.",
        metavar="DIR",
        callback=store_folder,
        autocompletion=complete_stores,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
JsonLinesOption = Annotated[
    bool, typer.Option("--json-lines", help="Print progress and result on stdout, one JSON object per line.")
]
ModalityRuleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--modality-rule",
        help="Set the modality of matching files, such as depth='**/depth/*.png'. Repeatable.",
        metavar="MODALITY=GLOB",
    ),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option("--include", help="Only process matching files; keep all other items. Repeatable.", metavar="GLOB"),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="Skip matching files; keep their items. Repeatable.", metavar="GLOB"),
]
LimitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--limit", help="Set a resource limit per file, such as pixels=500000000. Repeatable.", metavar="NAME=N"
    ),
]
ImuRateOption = Annotated[
    float | None,
    typer.Option("--imu-rate", help="Sample rate of motion files that do not state one.", metavar="HZ"),
]
OnOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        help="Ray cluster that has the shards of the store: local (one is started here), auto, ray://HOST:10001 or "
        "HOST:6379; default: none.",
        metavar="CLUSTER",
    ),
]
RequireAllOption = Annotated[
    bool,
    typer.Option("--require-all", help="Fail if a shard of the store does not answer, instead of a partial answer."),
]
LocateOption = Annotated[
    bool,
    typer.Option("--locate", help="Show where in pictures, and when in recordings, the best 20 hits answer the query."),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", help="Device for models and indexes: auto (a GPU if present), cpu, cuda, cuda:N.", metavar="D"
    ),
]
OptimizeOption = Annotated[
    bool,
    typer.Option("--optimize/--no-optimize", help="Bring the indexes up to date; without, `optimize` does so later."),
]
EncoderOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder-option",
        help="Preprocessing option of the encoder of a new store, such as spatial_crops=3. Repeatable.",
        metavar="NAME=VALUE",
    ),
]

Words = Annotated[
    list[str] | None,
    typer.Argument(
        help="Text to search for, with or without quotes; or a file that exists. text:WORDS is always a text.",
        metavar="[TEXT]",
    ),
]
Texts = Annotated[list[str] | None, typer.Option("--text", help="Add a text. Repeatable.", metavar="TEXT")]
Images = Annotated[list[Path] | None, typer.Option("--image", help="Add an image. Repeatable.", metavar="FILE")]
Videos = Annotated[
    list[Path] | None, typer.Option("--video", help="Add a video, without its sound. Repeatable.", metavar="FILE")
]
Audios = Annotated[
    list[Path] | None, typer.Option("--audio", help="Add an audio recording. Repeatable.", metavar="FILE")
]
Depths = Annotated[list[Path] | None, typer.Option("--depth", help="Add a depth map. Repeatable.", metavar="FILE")]
Thermals = Annotated[
    list[Path] | None, typer.Option("--thermal", help="Add a thermal image. Repeatable.", metavar="FILE")
]
Imus = Annotated[list[Path] | None, typer.Option("--imu", help="Add a motion recording. Repeatable.", metavar="FILE")]
Likes = Annotated[
    list[str] | None,
    typer.Option(
        "--like",
        help="Add an indexed item, by id or path. Repeatable.",
        metavar="ITEM",
        autocompletion=complete_paths,
    ),
]
QueryOption = Annotated[
    str | None,
    typer.Option("--query", help="Add an expression, such as '0.5*image:a.jpg + 0.5*audio:b.wav'.", metavar="EXPR"),
]
ToOption = Annotated[
    str | None,
    typer.Option(
        "--to",
        help="Modalities of the results, such as image,video or photos,sounds; default: all.",
        metavar="M,M",
        autocompletion=complete_modalities,
    ),
]
KOption = Annotated[int, typer.Option("-k", help="Number of hits.")]
RankingOption = Annotated[
    str,
    typer.Option(
        "--ranking",
        help="probability, z (deviations above the mean of a modality), cosine or per-modality.",
        metavar="RANKING",
        autocompletion=complete_rankings,
    ),
]
DiversityOption = Annotated[
    float | None,
    typer.Option(
        "--diversity",
        help="0 = relevance only, 0.3 = spread, 0.5 = half of the near-duplicates, 1 = diversity only. "
        "Hits are in the order of selection, not of scores.",
        metavar="X",
    ),
]
CopiesOption = Annotated[bool, typer.Option("--copies", help="List copies of a hit as hits, too.")]
WordSearchOption = Annotated[
    bool | None,
    typer.Option(
        "--words/--no-words",
        help="Search words of names, captions and texts alone, without a model; or vectors alone. Default: both.",
        show_default=False,
    ),
]
MinMatchOption = Annotated[
    str,
    typer.Option(
        "--min-match",
        help="Least match of a hit: strong, likely, or a probability such as 0.2.",
        metavar="MATCH",
        autocompletion=complete_matches,
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        help="Filter, such as \"duration_s > 3 and path like '%2024%'\".",
        metavar="EXPR",
        autocompletion=complete_filter,
    ),
]
UnderOption = Annotated[
    list[Path] | None, typer.Option("--under", help="Only files in this folder or below it. Repeatable.", metavar="DIR")
]
CollectionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--collection",
        help="Only items of this collection. Repeatable.",
        metavar="NAME",
        autocompletion=complete_collections,
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        help="Only files modified since then: today, yesterday, 2024-01-31, 7d; 2024 and 2024-01 mean their start.",
        metavar="TIME",
    ),
]
UntilOption = Annotated[
    str | None,
    typer.Option("--until", help="Only files modified before then; 2024 and 2024-01 mean their end.", metavar="TIME"),
]
IncludeQueryOption = Annotated[bool, typer.Option("--include-query", help="Return the query's own files as hits, too.")]
IndexOption = Annotated[
    str | None,
    typer.Option("--index", help="Index type: auto (by size), exact, ivfpq. Saved in the store.", metavar="TYPE"),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--memory",
        help="Memory limit of a modality's index, such as 500MB; auto: no limit. Saved in the store.",
        metavar="SIZE",
    ),
]
RecallOption = Annotated[
    float | None,
    typer.Option("--recall", help="Target recall; default: 0.98. Saved in the store.", metavar="X"),
]
IndexParameterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--index-option",
        help="Index parameter, such as lists=512 or lists=auto. Repeatable. Saved in the store.",
        metavar="NAME=N",
    ),
]


@dataclass(frozen=True, kw_only=True)
class MediaTerms:
    """Texts and files of a query."""

    text: Texts = None
    image: Images = None
    video: Videos = None
    audio: Audios = None
    depth: Depths = None
    thermal: Thermals = None
    imu: Imus = None


@dataclass(frozen=True, kw_only=True)
class TermOptions(MediaTerms):
    """Terms of a query, besides the words of the command line."""

    like: Likes = None
    query: QueryOption = None


@dataclass(frozen=True, kw_only=True)
class FilterOptions:
    """Items that are considered."""

    where: WhereOption = None
    under: UnderOption = None
    collection: CollectionOption = None
    since: SinceOption = None
    until: UntilOption = None


@dataclass(frozen=True, kw_only=True)
class HitOptions(TermOptions):
    """Terms of a query, and which hits it has."""

    to: ToOption = None
    k: KOption = 10
    ranking: RankingOption = "probability"
    diversity: DiversityOption = None
    min_match: MinMatchOption = "0"
    copies: CopiesOption = False
    word_search: WordSearchOption = None


@dataclass(frozen=True, kw_only=True)
class QueryOptions(FilterOptions, HitOptions):
    """All options of a query. The help has them in the order of the bases from the last to the first."""

    include_query: IncludeQueryOption = False


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """Reading of files."""

    modality_rule: ModalityRuleOption = None
    imu_rate: ImuRateOption = None
    limit: LimitOption = None


@dataclass(frozen=True, kw_only=True)
class IndexTypeOptions:
    """Settings of the indexes of a store."""

    index: IndexOption = None
    memory: MemoryOption = None
    recall: RecallOption = None
    index_option: IndexParameterOption = None


def with_option_groups(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that has the fields of its parameters of data classes as options, in their place.

    Args:
        command: Function whose parameters are annotated as options, or with a data class whose fields are.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    if not groups:
        return command
    options = []
    for name, parameter in signature(command).parameters.items():
        if name not in groups:
            options.append(parameter.replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY))
            continue
        of_group = get_type_hints(groups[name], include_extras=True)
        options += [
            Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=of_group[field.name])
            for field in fields(groups[name])
        ]

    @wraps(command)
    def run(**given: Any) -> Any:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        return command(**given)

    run.__signature__ = signature(command).replace(parameters=options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run
