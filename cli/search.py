"""The commands that answer queries of a store: `bindsearch search`, `report` and `explain`."""

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
from bindsearch.cli.options import argument, option
from bindsearch.cli.output import plural, print_json, print_line, print_message, print_notices
from bindsearch.cli.parse import read_query
from bindsearch.errors import UsageError
from bindsearch.search.query import Query, make_query

if TYPE_CHECKING:
    from bindsearch.cli.hits.pictures import Preview
    from bindsearch.cli.hits.terminal import Color
    from bindsearch.store import Store
    from bindsearch.views.located_hits import HitLocating

EXIT_NO_HITS = 1
STDIN = "-"
MAX_LINE = 100_000
"""Most characters of a query of standard input."""

MAX_BYTES = 1 << 20
"""Largest file of queries."""


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


def report_command(
    queries: Annotated[
        Path,
        argument(
            "QUERIES",
            "Text file with one query a line, as for --query; empty lines and lines that begin with # are left "
            "out. -: standard input.",
            allow_dash=True,
        ),
    ],
    html: Annotated[Path, option("--html FILE", "HTML file to write.")],
    title: Annotated[str | None, option("--title", "Title; default: the name of QUERIES.")] = None,
    to: opts.ToOption = None,
    k: opts.KOption = 10,
    where: opts.WhereOption = None,
    imu_rate: opts.ImuRateOption = None,
    locate: opts.LocateOption = False,
    device: opts.DeviceOption = "auto",
    store: opts.StoreOption = None,
    json: opts.JsonOption = False,
) -> int:
    """Write the answers to a list of queries into one HTML file, which opens offline.

    Pictures, and the spans of sounds and videos, are inside the file, up to a size; beyond it, files are linked. Exits
    with 1 if no query has a hit.

    Examples: bindsearch report queries.txt --html report.html
    bindsearch report queries.txt --html report.html --to image,audio -k 20 --title "Dogs and rain"
    """
    from bindsearch.shards.connect import connect
    from bindsearch.views.html_page import check_target, write_page
    from bindsearch.views.located_hits import HitLocating

    check_target(html)
    if html.exists() and queries.exists() and html.samefile(queries):
        raise UsageError(f"--html {html} is the file of queries: give another name")
    asked = _read_queries(queries, to=to, k=k, where=where)
    name = title or ("Search report" if str(queries) == "-" else queries.stem)
    with connect(store, device=device) as opened:
        locating = HitLocating(imu_rate_hz=imu_rate) if locate else None
        asked_queries = [query for _, query in asked]
        answers = write_page(html, opened, asked_queries, title=name, imu_rate_hz=imu_rate, locating=locating)
    hits = sum(len(answer["hits"]) for answer in answers)
    if json:
        facts = [
            {"query": line, "hits": len(answer["hits"]), "stands_out": answer["stands_out"]}
            for (line, _), answer in zip(asked, answers, strict=True)
        ]
        print_json({"html": str(html.absolute()), "size_bytes": html.stat().st_size, "queries": facts})
    else:
        print_line(f"{html}: {plural(hits, 'hit')} of {len(asked)} {'query' if len(asked) == 1 else 'queries'}")
    print_notices(dict.fromkeys(notice for answer in answers for notice in answer["notices"]))
    return 0 if hits else EXIT_NO_HITS


def _read_queries(path: Path, *, to: str | None, k: int, where: str | None) -> list[tuple[str, Query]]:
    """Return the lines of a file of queries with their queries; of "-", those of standard input.

    Raises:
        UsageError: the file cannot be read, is too large, is not UTF-8, has no query, or a line is not a query.
    """
    from bindsearch.search.filter import make_filter
    from bindsearch.search.query_syntax import parse_query
    from bindsearch.small_files import read_small_file

    kept = make_filter(where=where)
    try:
        raw = sys.stdin.buffer.read(MAX_BYTES + 1) if str(path) == "-" else read_small_file(path, MAX_BYTES)
        if len(raw) > MAX_BYTES:
            raise UsageError(f"the queries on standard input have more than {MAX_BYTES} bytes: give fewer at once")
        content = raw.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a text of UTF-8: one query a line is expected") from error
    asked = []
    for number, line in enumerate(content.splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            asked.append((text, make_query(parse_query(text), to=to, k=k, filter=kept)))
        except UsageError as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
    if not asked:
        raise UsageError(f"{path} has no query: write one query a line")
    return asked
