"""`bindsearch report`: the answers to a list of queries as one HTML file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bindsearch.cli import options as opts
from bindsearch.cli.options import argument, option
from bindsearch.cli.output import plural, print_json, print_line, print_notices
from bindsearch.errors import UsageError

if TYPE_CHECKING:
    from bindsearch.search.query import Query

EXIT_NO_HITS = 1
MAX_BYTES = 1 << 20


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
    asked = read_queries(queries, to=to, k=k, where=where)
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


def read_queries(path: Path, *, to: str | None, k: int, where: str | None) -> list[tuple[str, Query]]:
    """Return the lines of a file of queries with their queries; of "-", those of standard input.

    Raises:
        UsageError: the file cannot be read, is too large, is not UTF-8, has no query, or a line is not a query.
    """
    from bindsearch.search.filter import make_filter
    from bindsearch.search.query import make_query
    from bindsearch.search.query_syntax import parse_query

    kept = make_filter(where=where)
    asked = []
    for number, line in enumerate(_read_text(path).splitlines(), 1):
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


def _read_text(path: Path) -> str:
    """Return the content of the file of queries. Raises UsageError: it is unreadable, too large, or not UTF-8."""
    from bindsearch.small_files import read_small_file

    try:
        raw = sys.stdin.buffer.read(MAX_BYTES + 1) if str(path) == "-" else read_small_file(path, MAX_BYTES)
        if len(raw) > MAX_BYTES:
            raise UsageError(f"the queries on standard input have more than {MAX_BYTES} bytes: give fewer at once")
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a text of UTF-8: one query a line is expected") from error
