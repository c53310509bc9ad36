"""`bindsearch search` and `bindsearch explain`: query a store, and see how it is searched."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from bindsearch.cli import options as opts
from bindsearch.cli.ask import asking, prepare_for_few_rows
from bindsearch.cli.options import option
from bindsearch.cli.output import plural, print_json, print_line, print_message, print_notices
from bindsearch.cli.parse import read_query
from bindsearch.errors import UsageError
from bindsearch.search.query import Query

if TYPE_CHECKING:
    from bindsearch.cli.hits.pictures import Preview
    from bindsearch.cli.hits.terminal import Color
    from bindsearch.store import Store
    from bindsearch.views.located_hits import HitLocating

EXIT_NO_HITS = 1
STDIN = "-"
MAX_LINE = 100_000
"""Most characters of a query of standard input."""


def search_command(
    words: opts.Words = None,
    *,
    options: opts.QueryOptions,
    imu_rate: opts.ImuRateOption = None,
    device: opts.DeviceOption = "auto",
    store: opts.StoreOption = None,
    on: opts.OnOption = None,
    require_all: opts.RequireAllOption = False,
    locate: opts.LocateOption = False,
    json: opts.JsonOption = False,
    jsonl: Annotated[bool, option("--jsonl", "Print one JSON object a hit and line.")] = False,
    csv: Annotated[bool, option("--csv", "Print CSV with a header.")] = False,
    paths: Annotated[
        bool, option("--paths", "Print paths only, one per line, with control characters escaped.")
    ] = False,
    print0: Annotated[
        bool, option("--print0 -0", "Print paths only, as they are, each ended by NUL, for xargs -0.")
    ] = False,
    form: Annotated[
        str | None,
        option("--format FORM", "Print each hit in this form, such as '{path}\\t{start_s}'; see below."),
    ] = None,
    flat: Annotated[
        bool, option("--flat", "List all hits; else weak ones are one line a kind if there are better ones.")
    ] = False,
    color: Annotated[
        str, option("--color", "Emphasise matched words, dim weak matches: auto, always or never.")
    ] = "auto",
    preview: Annotated[
        str | None,
        option(
            "--preview [=HOW]",
            "Show a thumbnail of each hit in the terminal; =kitty, =iterm, =sixel or =blocks says how.",
        ),
    ] = None,
    no_server: Annotated[
        bool, option("--no-server", "Search in this process, even if `bindsearch serve` has the store open.")
    ] = False,
    html: Annotated[Path | None, option("--html FILE", "Also write the answer as one HTML file.")] = None,
    open_: Annotated[
        int | None, option("--open [N]", "Open hit number N, by default the first, at its span if the player can.")
    ] = None,
) -> int:
    """Search with a text, files, or a weighted sum of several. Options are combined into one query.

    The text - reads queries from standard input, one a line. Fields of --format: rank, path, name, folder, modality,
    match, probability, z, score, cosine, item_id, collection, start_s, end_s, line, text, is_missing, found_by,
    place.

    Examples: bindsearch search "a dog barking"
    bindsearch search --audio bark.wav --to image,video --where "modified > '2024-01-01'"
    bindsearch search --query '0.5*image:fruit.jpg + 0.5*audio:birds.wav' --to image
    bindsearch search "a dog" --format '{probability:.2f} {path}'
    """
    from bindsearch.arguments import to_choice
    from bindsearch.cli.hits.formats import one_of, parse_form
    from bindsearch.cli.hits.terminal import Color

    forms = {"--json": json, "--jsonl": jsonl, "--csv": csv, "--paths": paths, "--print0": print0}
    chosen = one_of({**forms, "--format": form is not None})
    if form is not None:
        parse_form(form)
    if preview is not None and chosen is not None:
        raise UsageError(f"--preview and {chosen} exclude each other: choose one")
    shown_below = None
    if preview is not None:
        from bindsearch.cli.hits.pictures import preview_lines, to_graphics
        from bindsearch.storage.config import resolve_store

        shown_below = partial(preview_lines, store=resolve_store(store), graphics=to_graphics(preview))
    output = Output(chosen, form, flat, to_choice(color, Color, "use of colours"), shown_below, open_)
    answering = partial(
        asking,
        store=store,
        device=device,
        imu_rate_hz=imu_rate,
        use_server=not no_server,
        on=on,
        require_all=require_all,
    )
    if words == [STDIN]:
        if html is not None:
            raise UsageError("--html takes one query: `bindsearch report` writes a page of many")
        with _locating(imu_rate, is_asked=locate) as locating, answering(locating=locating) as ask:
            return _answer_lines(_lines(), lambda line: ask(read_query([line], options)), output)
    asked = read_query(words, options)
    if html is not None:
        from bindsearch.shards.connect import connect

        with connect(store, on=on, device=device, require_all=require_all) as opened:
            return _write_page(asked, html, output, opened, imu_rate, locate=locate)
    with _locating(imu_rate, is_asked=locate) as locating, answering(locating=locating) as ask:
        answer = ask(asked)
    _show(answer, output)
    return 0 if answer["hits"] else EXIT_NO_HITS


@dataclass(frozen=True, slots=True)
class Output:
    """Form of the output: the option that chose one for programs, that of --format, and how the table is."""

    form: str | None
    template: str | None
    flat: bool
    color: Color
    preview: Preview | None
    opened: int | None
    """Rank of the hit to open."""


def _show(answer: dict[str, Any], output: Output) -> None:
    """Print an answer, what is to be known of it, and open a hit."""
    from bindsearch.cli.hits import formats
    from bindsearch.cli.hits.table import print_hits, searched_in

    hits = answer["hits"]
    match output.form:
        case None:
            print_hits(answer, flat=output.flat, color=output.color, preview=output.preview)
        case "--json":
            print_json(answer)
        case "--jsonl":
            for hit in hits:
                print_json(hit, indent=None)
        case "--csv":
            formats.print_csv(hits)
        case "--format":
            formats.print_form(hits, output.template or "")
        case _:
            formats.print_paths(hits, end_with_nul=output.form == "--print0")
    gone = sum(hit["is_missing"] for hit in hits)
    if output.form in ("--paths", "--print0") and gone:
        print_message(f"note: {plural(gone, 'file')} of these {'is' if gone == 1 else 'are'} no longer there")
    print_notices(answer["notices"])
    if not hits:
        print_message(f"no hits: searched {searched_in(answer)} of {', '.join(answer['query']['to'])}")
    for suggestion in answer["suggestions"] if output.form != "--json" else ():  # of which they are part
        print_message(f"try: {suggestion['text']}")
    if output.opened is not None:
        from bindsearch.cli.hits.open_hit import open_hit

        open_hit(hits, output.opened)


@contextmanager
def _locating(imu_rate_hz: float | None, *, is_asked: bool) -> Iterator[HitLocating | None]:
    """Yield options that show the progress of locating; None: it is not asked for."""
    if not is_asked:
        yield None
        return
    from bindsearch.cli.progress import show_slow
    from bindsearch.views.located_hits import HitLocating

    with show_slow("locating") as report:
        yield HitLocating(imu_rate_hz=imu_rate_hz, report=report)


def _write_page(
    query: Query, path: Path, output: Output, opened: Store, imu_rate_hz: float | None, *, locate: bool
) -> int:
    """Write the answer as one HTML file, show it and return the exit code."""
    from bindsearch.views.answer_data import with_lines
    from bindsearch.views.html_page import write_page

    title = ", ".join(term.source for term in query.terms)
    with _locating(imu_rate_hz, is_asked=locate) as locating:
        (answer,) = write_page(path, opened, [query], title=title, imu_rate_hz=imu_rate_hz, locating=locating)
    _show(with_lines(answer), output)
    print_message(f"written: {path}")
    return 0 if answer["hits"] else EXIT_NO_HITS


def _lines() -> Iterator[str]:
    """Yield the lines of stdin, at most MAX_LINE + 1 characters of each; other bytes than UTF-8 are surrogates."""
    stream = sys.stdin
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    while line := stream.readline(MAX_LINE + 1):
        yield line
        rest = line
        while len(rest) > MAX_LINE and not rest.endswith("\n"):
            rest = stream.readline(MAX_LINE + 1)


def _answer_lines(lines: Iterable[str], ask: Callable[[str], dict[str, Any]], output: Output) -> int:
    """Answer the queries of lines; an error of one is told, and the next are answered. Return the exit code."""
    has_hits = failed = False
    for number, line in enumerate(lines, 1):
        if not (written := line.strip()):
            continue
        of_line = {"line": number, "query_text": written}
        try:
            if len(written) > MAX_LINE:
                raise UsageError(f"the query has more than {MAX_LINE:,} characters: write a shorter one")
            if not written.isascii() and any("\ud800" <= letter <= "\udfff" for letter in written):
                raise UsageError("the query is not a text of UTF-8: convert it")
            answer = ask(written)
        except UsageError as error:
            failed = True
            if output.form in ("--json", "--jsonl"):
                print_json({**of_line, "error": str(error)}, indent=None)
            print_message(f"line {number}: {error}")
            continue
        has_hits = has_hits or bool(answer["hits"])
        if output.form == "--json":
            print_json({**of_line, **answer}, indent=None)
        elif output.form == "--jsonl":
            for hit in answer["hits"]:
                print_json({"query_line": number, **hit}, indent=None)
        else:
            if output.form is None:
                print_line(f"# {written}")
            _show(answer, output)
    if failed:
        return UsageError.exit_code
    return 0 if has_hits else EXIT_NO_HITS


def explain_command(
    words: opts.Words = None,
    *,
    options: opts.QueryOptions,
    imu_rate: opts.ImuRateOption = None,
    device: opts.DeviceOption = "auto",
    store: opts.StoreOption = None,
    on: opts.OnOption = None,
    json: opts.JsonOption = False,
    analyze: Annotated[
        bool, option("--analyze", "Run the query and show actual rows and times next to the estimates.")
    ] = False,
) -> None:
    """Show the plan of a query: how each modality is searched, the estimated cost and the reasons.

    Takes the same options as `search`.

    Examples: bindsearch explain "a dog barking" --to image
    bindsearch explain --audio bark.wav --where "duration_s > 3" --analyze
    """
    prepare_for_few_rows()
    from bindsearch.search.explain import explain_plan, explain_run, plan_json, run_json
    from bindsearch.shards.connect import connect

    asked = read_query(words, options)
    with connect(store, on=on, device=device) as opened:
        if analyze:
            answer = opened.answer(asked, imu_rate_hz=imu_rate)
            data, shown = run_json(answer.plan, answer.run), explain_run(answer.plan, answer.run)
        else:
            plan = opened.explain(asked)
            data, shown = plan_json(plan), explain_plan(plan)
    if json:
        print_json(data)
    else:
        for line in shown.splitlines():
            print_line(line)
