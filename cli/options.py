"""Options that several commands share, and groups of them: data classes whose fields are options of a command."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from bindsearch.arguments import did_you_mean, shown
from bindsearch.cli.settings.complete import (
    complete_collections,
    complete_filter,
    complete_matches,
    complete_modalities,
    complete_paths,
    complete_rankings,
    complete_stores,
)
from bindsearch.errors import StoreNotFoundError

CREATE_STORES = frozenset({"import", "index", "merge", "recover", "watch"})
"""Commands that may create the store that they are given."""

Complete = Callable[..., Any]
"""Returns the values that a shell offers."""


def option(usage: str, help: str, complete: Complete | None = None, **others: Any) -> Any:
    """Return the declaration of an option, for `Annotated`.

    Args:
        usage: Its names, and after them the word for its value, such as "--where EXPR" or "--print0 -0".
        help: What it does.
        complete: Returns the values that a shell offers; None: those of its type.
        others: More arguments of `typer.Option`.
    """
    names = [word for word in usage.split() if word.startswith("-")]
    metavar = usage.removeprefix(" ".join(names)).strip() or None
    return typer.Option(*names, help=help, metavar=metavar, autocompletion=complete, **others)


def argument(metavar: str, help: str, complete: Complete | None = None, **others: Any) -> Any:
    """Return the declaration of an argument, as `option` does that of an option."""
    return typer.Argument(metavar=metavar, help=help, autocompletion=complete, **others)


def store_folder(ctx: Any, value: str | None) -> str | None:
    """Return the folder of a store as a text. The callback of `--store`.

    Raises:
        UsageError: the name is ambiguous.
        StoreNotFoundError: nothing has this name, some stores have names, and the command does not create a store.
    """
    if value is None or ctx.resilient_parsing:
        return value
    from bindsearch.storage.user_file import STORE_NAME, find_store, named_stores

    folder = find_store(value)
    is_unknown = STORE_NAME.fullmatch(value) and str(folder) == value and not os.path.lexists(value)
    if is_unknown and ctx.command.name not in CREATE_STORES and (stores := named_stores()):
        near = did_you_mean(value, stores)
        names = ", ".join(sorted(stores))
        raise StoreNotFoundError(f"no store at or named {shown(value)}: {near}the named stores are {names}")
    return str(folder)


StoreOption = Annotated[
    str | None,
    option(
        "--store DIR",
        "Store folder, or name of a store; default: $BINDSEARCH_STORE, else the user's data directory.",
        complete_stores,
        callback=store_folder,
    ),
]
JsonOption = Annotated[bool, option("--json", "Print one JSON object on stdout.")]
JsonLinesOption = Annotated[
    bool, option("--json-lines", "Print progress and result on stdout, one JSON object per line.")
]
ModalityRuleOption = Annotated[
    list[str] | None,
    option(
        "--modality-rule MODALITY=GLOB",
        "Set the modality of matching files, such as depth='**/depth/*.png'. Repeatable.",
    ),
]
IncludeOption = Annotated[
    list[str] | None, option("--include GLOB", "Only process matching files; keep all other items. Repeatable.")
]
ExcludeOption = Annotated[
    list[str] | None, option("--exclude GLOB", "Skip matching files; keep their items. Repeatable.")
]
LimitOption = Annotated[
    list[str] | None, option("--limit NAME=N", "Set a resource limit per file, such as pixels=500000000. Repeatable.")
]
ImuRateOption = Annotated[float | None, option("--imu-rate HZ", "Sample rate of motion files that do not state one.")]
OnOption = Annotated[
    str | None,
    option(
        "--on CLUSTER",
        "Ray cluster that has the shards of the store: local (one is started here), auto, ray://HOST:10001 or "
        "HOST:6379; default: none.",
    ),
]
RequireAllOption = Annotated[
    bool, option("--require-all", "Fail if a shard of the store does not answer, instead of a partial answer.")
]
LocateOption = Annotated[
    bool, option("--locate", "Show where in pictures, and when in recordings, the best 20 hits answer the query.")
]
DeviceOption = Annotated[
    str, option("--device D", "Device for models and indexes: auto (a GPU if present), cpu, cuda, cuda:N.")
]
OptimizeOption = Annotated[
    bool, option("--optimize/--no-optimize", "Bring the indexes up to date; without, `optimize` does so later.")
]
EncoderOptions = Annotated[
    list[str] | None,
    option(
        "--encoder-option NAME=VALUE",
        "Preprocessing option of the encoder of a new store, such as spatial_crops=3. Repeatable.",
    ),
]

Words = Annotated[
    list[str] | None,
    argument(
        "[TEXT]", "Text to search for, with or without quotes; or a file that exists. text:WORDS is always a text."
    ),
]
QueryOption = Annotated[
    str | None, option("--query EXPR", "Add an expression, such as '0.5*image:a.jpg + 0.5*audio:b.wav'.")
]
ToOption = Annotated[
    str | None,
    option(
        "--to M,M",
        "Modalities of the results, such as image,video or photos,sounds; default: all.",
        complete_modalities,
    ),
]
KOption = Annotated[int, option("-k", "Number of hits.")]
WhereOption = Annotated[
    str | None, option("--where EXPR", "Filter, such as \"duration_s > 3 and path like '%2024%'\".", complete_filter)
]
CollectionOption = Annotated[
    list[str] | None, option("--collection NAME", "Only items of this collection. Repeatable.", complete_collections)
]


@dataclass(frozen=True, kw_only=True)
class MediaTerms:
    """Texts and files of a query."""

    text: Annotated[list[str] | None, option("--text TEXT", "Add a text. Repeatable.")] = None
    image: Annotated[list[Path] | None, option("--image FILE", "Add an image. Repeatable.")] = None
    video: Annotated[list[Path] | None, option("--video FILE", "Add a video, without its sound. Repeatable.")] = None
    audio: Annotated[list[Path] | None, option("--audio FILE", "Add an audio recording. Repeatable.")] = None
    depth: Annotated[list[Path] | None, option("--depth FILE", "Add a depth map. Repeatable.")] = None
    thermal: Annotated[list[Path] | None, option("--thermal FILE", "Add a thermal image. Repeatable.")] = None
    imu: Annotated[list[Path] | None, option("--imu FILE", "Add a motion recording. Repeatable.")] = None


@dataclass(frozen=True, kw_only=True)
class TermOptions(MediaTerms):
    """Terms of a query, besides the words of the command line."""

    like: Annotated[
        list[str] | None, option("--like ITEM", "Add an indexed item, by id or path. Repeatable.", complete_paths)
    ] = None
    query: QueryOption = None


@dataclass(frozen=True, kw_only=True)
class FilterOptions:
    """Items that are considered."""

    where: WhereOption = None
    under: Annotated[list[Path] | None, option("--under DIR", "Only files in this folder or below it. Repeatable.")] = (
        None
    )
    collection: CollectionOption = None
    since: Annotated[
        str | None,
        option(
            "--since TIME",
            "Only files modified since then: today, yesterday, 2024-01-31, 7d; 2024 and 2024-01 mean their start.",
        ),
    ] = None
    until: Annotated[
        str | None, option("--until TIME", "Only files modified before then; 2024 and 2024-01 mean their end.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class HitOptions(TermOptions):
    """Terms of a query, and which hits it has."""

    to: ToOption = None
    k: KOption = 10
    ranking: Annotated[
        str,
        option(
            "--ranking RANKING",
            "probability, z (deviations above the mean of a modality), cosine or per-modality.",
            complete_rankings,
        ),
    ] = "probability"
    diversity: Annotated[
        float | None,
        option(
            "--diversity X",
            "0 = relevance only, 0.3 = spread, 0.5 = half of the near-duplicates, 1 = diversity only. "
            "Hits are in the order of selection, not of scores.",
        ),
    ] = None
    min_match: Annotated[
        str,
        option(
            "--min-match MATCH", "Least match of a hit: strong, likely, or a probability such as 0.2.", complete_matches
        ),
    ] = "0"
    copies: Annotated[bool, option("--copies", "List copies of a hit as hits, too.")] = False
    word_search: Annotated[
        bool | None,
        option(
            "--words/--no-words",
            "Search words of names, captions and texts alone, without a model; or vectors alone. Default: both.",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class QueryOptions(FilterOptions, HitOptions):
    """All options of a query. The help has them in the order of the bases from the last to the first."""

    include_query: Annotated[bool, option("--include-query", "Return the query's own files as hits, too.")] = False


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """Reading of files."""

    modality_rule: ModalityRuleOption = None
    imu_rate: ImuRateOption = None
    limit: LimitOption = None


@dataclass(frozen=True, kw_only=True)
class IndexTypeOptions:
    """Settings of the indexes of a store."""

    index: Annotated[
        str | None, option("--index TYPE", "Index type: auto (by size), exact, ivfpq. Saved in the store.")
    ] = None
    memory: Annotated[
        str | None,
        option(
            "--memory SIZE", "Memory limit of a modality's index, such as 500MB; auto: no limit. Saved in the store."
        ),
    ] = None
    recall: Annotated[float | None, option("--recall X", "Target recall; default: 0.98. Saved in the store.")] = None
    index_option: Annotated[
        list[str] | None,
        option(
            "--index-option NAME=N", "Index parameter, such as lists=512 or lists=auto. Repeatable. Saved in the store."
        ),
    ] = None


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
