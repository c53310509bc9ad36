"""Parsing of options: queries, indexes, limits."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bindsearch.arguments import did_you_mean, is_existing_file, looks_like_path
from bindsearch.cli.options import DecodingOptions, FilterOptions, IndexTypeOptions, QueryOptions, TermOptions
from bindsearch.cli.output import print_message
from bindsearch.errors import UsageError
from bindsearch.indexes.types import IndexForm, IndexSettings
from bindsearch.ingest.media.kinds import EXTENSIONS
from bindsearch.search import query as terms
from bindsearch.search.filter import Filter, make_filter
from bindsearch.search.query import PREFIXES, Composition, Query, Term, WordSearch, make_query
from bindsearch.search.query_syntax import parse_query
from bindsearch.types import Modality

AUTO = "auto"
MAX_PARAMETER_DIGITS = 9
WORD_SEARCH = {None: WordSearch.AUTO, True: WordSearch.ONLY, False: WordSearch.OFF}
SIZES = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def parse_encoder_options(options: list[str] | None) -> dict[str, str | int | float | bool] | None:
    """{"spatial_crops": "3"} from ["spatial_crops=3"]; None from none. Raises UsageError: one has no "="."""
    parsed: dict[str, str | int | float | bool] = {}
    for option in options or []:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise UsageError(f"--encoder-option {option!r}: expected NAME=VALUE, such as spatial_crops=3")
        parsed[name] = value
    return parsed or None


def read_query(words: list[str] | None, options: QueryOptions) -> Query:
    """Return the query of words and options; print what is assumed of the words. Raises UsageError: one is wrong."""
    return make_query(
        read_terms(words, options, as_text=bool(options.word_search)),
        to=options.to,
        k=options.k,
        ranking=options.ranking,
        include_query=options.include_query,
        filter=read_filter(options),
        diversity=options.diversity or 0.0,
        min_match=parse_match(options.min_match),
        copies=options.copies,
        words=WORD_SEARCH[options.word_search],
    )


def read_filter(options: FilterOptions) -> Filter:
    """Return the filter of options. Raises UsageError: one of them is wrong."""
    return make_filter(
        where=options.where,
        folders=options.under or (),
        collections=options.collection or (),
        since=options.since,
        until=options.until,
    )


def read_terms(words: list[str] | None, options: TermOptions, *, as_text: bool = False) -> Composition:
    """Return the terms of a query; print what is assumed of words that are no text. Raises UsageError: one is wrong."""
    chosen = [terms.text(" ".join(words)) if as_text else read_words(" ".join(words))] if words else []
    for make in (terms.text, terms.image, terms.video, terms.audio, terms.depth, terms.thermal, terms.imu, terms.like):
        chosen += map(make, getattr(options, make.__name__) or ())
    return Composition((*chosen, *(() if options.query is None else parse_query(options.query).terms)))


def parse_match(given: str) -> float | str:
    """Return the least match of `--min-match`: the number that a text is, else the text, a word for a match."""
    try:
        return float(given)
    except ValueError:
        return given


def read_words(words: str) -> Term:
    """Return the term of the words of a command line: PREFIX:SOURCE, a file that exists, or a text.

    What is assumed is printed on stderr.
    """
    prefix, colon, source = words.partition(":")
    if prefix == Modality.TEXT and colon:
        return Term(prefix, source.strip())
    if prefix in PREFIXES and source and not source[0].isspace():
        return Term(prefix, source)
    if is_existing_file(Path(words)):
        print_message(f"note: {words} is a file, and its content is the query; text:{words} searches for the words")
        return Term(None, words)
    if "/" in words and Path(words).expanduser().is_dir():
        raise UsageError(f"{words} is a folder: `search WORDS --under {shlex.quote(words)}` searches what is in it")
    if len(parts := words.split()) > 1:
        if Path(words).suffix.lower() in EXTENSIONS and "/" in words:
            print_message(f"note: {words} is not a file: searching for it as a text")
        for part in parts:
            if looks_like_path(part) and is_existing_file(Path(part)):
                print_message(f"note: {part} is searched for as a text; give its content by an option such as --image")
    elif looks_like_path(words):
        print_message(f"note: {words} is not a file: searching for it as a text")
    return terms.text(words)


def read_index_settings(before: Callable[[], IndexSettings], options: IndexTypeOptions) -> IndexSettings | None:
    """Return the settings of `before`, changed by options; None if none is given. Raises UsageError: one is wrong."""
    index, memory = options.index, options.memory
    if index is None and memory is None and options.recall is None and not options.index_option:
        return None
    forms = (AUTO, IndexForm.EXACT.value, IndexForm.IVF_PQ.value)
    if index is not None and index not in forms:
        raise UsageError(f"--index {index!r}: {did_you_mean(index, forms)}choose from {', '.join(forms)}")
    overrides = _parse_parameters(options.index_option or [])
    settings = before()
    if index is not None:
        settings = replace(settings, form=None if index == AUTO else IndexForm(index))
    if memory is not None:
        settings = replace(settings, memory_bytes=None if memory == AUTO else _parse_size(memory))
    if options.recall is not None:
        settings = replace(settings, recall=options.recall)
    if overrides:
        merged = {**(settings.overrides or {}), **overrides}
        kept = {name: value for name, value in merged.items() if value is not None}
        settings = replace(settings, overrides=kept or None)
    return settings


def _parse_parameters(parameters: list[str]) -> dict[str, int | None]:
    """Return the overrides of options such as `lists=512`; the value is None for `lists=auto`."""
    overrides: dict[str, int | None] = {}
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if value != AUTO and not (value.isdecimal() and len(value) <= MAX_PARAMETER_DIGITS):
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


def decoding(options: DecodingOptions) -> dict[str, Any]:
    """Return the arguments of operations that read files. Raises UsageError: a limit is not a number."""
    numbers = parse_numbers("--limit", options.limit, "NAME=NUMBER, such as pixels=500000000")
    limits = {f"max_{name.strip().replace('-', '_')}": number for name, number in numbers.items()}
    return {"rules": options.modality_rule or (), "imu_rate_hz": options.imu_rate, "limits": limits}


def parse_numbers(option: str, given: list[str] | None, expected: str) -> dict[str, float]:
    """Return the numbers of an option by name: {"audio": 5.0} from ["audio=5"].

    Raises:
        UsageError: a value is not a number; the message has the name of the option and what is expected.
    """
    numbers = {}
    for text in given or ():
        name, _, number = text.partition("=")
        try:
            numbers[name] = float(number)
        except ValueError:
            raise UsageError(f"{option} {text!r}: expected {expected}") from None
    return numbers
