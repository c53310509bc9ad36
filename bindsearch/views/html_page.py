"""Answers as one HTML file, which opens offline: all pictures and clips are inside, and nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bindsearch.arguments import is_existing_file
from bindsearch.atomic import atomic_write
from bindsearch.errors import UsageError
from bindsearch.ingest.media.options import decode_options
from bindsearch.operations.locate.located import has_place
from bindsearch.operations.segment_media import Place
from bindsearch.search.explain import explain_run
from bindsearch.types import STANDS_OUT, Match, Modality, clock_span
from bindsearch.views.answer_data import answer_data
from bindsearch.views.collection_map import collection_map
from bindsearch.views.embedded import TERM_PX, Embedded, Embedder, PageLimits
from bindsearch.views.html import Html, element, joined, page_start
from bindsearch.views.located_figure import located_figure
from bindsearch.views.located_hits import locate_hits, place_of

if TYPE_CHECKING:
    from bindsearch.results import Answer
    from bindsearch.search.query import Query, Term
    from bindsearch.store import Store
    from bindsearch.views.located_hits import HitLocating

MAX_QUERIES, MAX_HITS = 1000, 10_000
WEAK = Match.WEAK.value
_MAX_TEXT = 2000
"""Characters of a passage, caption or term that are shown."""

_POINTS = 1500
"""Segments in the map of the store."""

_MAP_SIDE = 600
_RADIUS, _LARGE_RADIUS = 3, 5
_LARGE_BELOW = 300
"""Number of points below which they are drawn larger."""

DEFAULT_LIMITS = PageLimits()


class _Section(NamedTuple):
    """One query of a page: its number from 1, the query, its answer and that as data."""

    number: int
    query: Query
    answer: Answer
    data: dict[str, Any]


def write_page(
    path: Path,
    store: Store,
    queries: Sequence[Query],
    *,
    title: str,
    imu_rate_hz: float | None = None,
    limits: PageLimits = DEFAULT_LIMITS,
    locating: HitLocating | None = None,
) -> list[dict[str, Any]]:
    """Answer queries and write the answers as one HTML file; an existing file is replaced when all is written.

    Args:
        path: The file to write.
        store: The store to search.
        queries: At least one query, at most MAX_QUERIES.
        title: Title of the page.
        imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
        limits: Limits of the media in the page.
        locating: Whether, and how many, hits show the places that answer their query; None: they do not.

    Returns:
        The answers as data (`answer_data`), in the order of the queries.

    Raises:
        UsageError: the file cannot be written, there are no or too many queries or hits, or as for `Store.answer`.
        StoreNotFoundError: there is no store.
    """
    check_target(path)
    if not 1 <= len(queries) <= MAX_QUERIES:
        raise UsageError(f"the page would have {len(queries)} queries: give 1 to {MAX_QUERIES}")
    answers = [store.answer(query, imu_rate_hz=imu_rate_hz) for query in queries]
    data = [
        answer_data(answer) if locating is None else locate_hits(store, query, answer, locating)
        for query, answer in zip(queries, answers, strict=True)
    ]
    embedder = Embedder(limits, decode_options(store.config, imu_rate_hz))
    if (hits := sum(len(answer.hits) for answer in answers)) > MAX_HITS:
        raise UsageError(f"the page would have {hits} hits: ask for at most {MAX_HITS} in all")
    sections = [_Section(*parts) for parts in zip(count(1), queries, answers, data, strict=False)]
    try:
        with atomic_write(path) as file:
            for part in _page(title, sections, embedder, _map_figure(collection_map(store, _POINTS))):
                file.write(part.encode(errors="backslashreplace"))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error
    return data


def check_target(path: Path) -> None:
    """Check that a page can be written to a file.

    Raises:
        UsageError: its name is not one of an HTML file, or its folder is missing.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path}: expected a name that ends in .html")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise UsageError(f"{path} is a folder: give the name of a file")


def _page(title: str, sections: Sequence[_Section], embedder: Embedder, chart: Html) -> Iterator[str]:
    """Yield the page in parts."""
    style, script = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    yield page_start(title, style, script)
    links = [element("li", element("a", _title_of(one.query), href=f"#query-{one.number}")) for one in sections]
    contents = element("nav", element("ol", *links), aria_label="Queries") if len(sections) > 1 else Html()
    yield element("header", element("h1", title), contents)
    yield "<main>"
    for section in sections:
        yield from _section(section, embedder)
    yield element("details", element("summary", "Map of the store"), chart)
    yield f"</main>{element('script', Html(script))}</body></html>\n"


def _section(section: _Section, embedder: Embedder) -> Iterator[str]:
    """Yield the answer to one query: its terms, strong hits, weak ones folded, and the plan."""
    data, name = section.data, f"query-{section.number}"
    yield f'<section aria-labelledby="{name}">'
    yield element("h2", _title_of(section.query), id=name)
    yield element("ul", *_terms(section, embedder), class_="terms", aria_label="Terms of the query")
    searched = data["searched"]
    key, things = ("fields", "names and texts") if searched["words_alone"] else ("segments", "segments")
    summary = f"Searched {searched[key]:,} {things} of {', '.join(data['query']['to'])}."
    yield element("p", summary, class_="soft")
    for notice in data["notices"]:
        yield element("p", notice, class_="notice")
    if data["hits"] and not data["stands_out"]:
        yield element("p", "Nothing stands out. The matches are guesses: chance finds as good ones.", class_="notice")
    if not data["hits"]:
        yield element("p", "No hits.", class_="notice")
    if suggestions := data.get("suggestions"):
        yield element("p", "To try:", class_="soft")
        yield element("ul", *(element("li", str(one["text"])) for one in suggestions))
    shown, folded = _by_match(data["hits"])
    yield from _hits(shown, section.query, embedder)
    if folded:
        yield f"<details><summary>Show {len(folded)} weak {'match' if len(folded) == 1 else 'matches'}</summary>"
        yield from _hits(folded, section.query, embedder)
        yield "</details>"
    plan = element("pre", explain_run(section.answer.plan, section.answer.run), tabindex="0")
    yield element("details", element("summary", "Plan of the search"), plan)
    yield "</section>"


def _hits(hits: Sequence[dict[str, Any]], query: Query, embedder: Embedder) -> Iterator[str]:
    """Yield hits as a list; nothing if there are none."""
    if hits:
        yield '<ol class="hits">'
        labels = [_label(term) for term in query.terms]
        yield from (_hit(hit, labels, embedder) for hit in hits)
        yield "</ol>"


def _by_match(hits: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the hits to show and those to fold, both in their order.

    Weak ones are folded, but those that stand out if there are no better ones, and those of which a part answers.
    """
    has_better = any(hit["match"] != WEAK for hit in hits)
    shown: list[dict[str, Any]] = []
    folded: list[dict[str, Any]] = []
    for hit in hits:
        is_found = hit["match"] != WEAK or (not has_better and hit["probability"] >= STANDS_OUT)
        (shown if is_found or has_place(hit["located"]) else folded).append(hit)
    return shown, folded


def _terms(section: _Section, embedder: Embedder) -> Iterator[Html]:
    """Yield the terms of a query with their weights, those of files with a thumbnail."""
    weights = dict(enumerate(section.answer.terms))
    for number, term in enumerate(section.query.terms):
        shown, weight = Embedded(), ""
        if (used := weights.get(number)) is not None:
            weight = f"{used.weight:+.3g} \N{MULTIPLICATION SIGN} "
            if used.modality is not Modality.TEXT and is_existing_file(path := Path(term.source).absolute()):
                span = (None, None) if term.span is None else (term.span.start_s, term.span.end_s)
                shown = embedder.thumbnail(Place(path, path.parent, used.modality, *span), TERM_PX)
        picture = element("img", src=shown.picture, alt="") if shown.picture else Html()
        yield element("li", picture, element("span", weight + _label(term)))


def _label(term: Term) -> str:
    """Return a term in words: its kind, if it is given, and the text, item, or name of the file."""
    source = " ".join(term.source.split())
    is_file = term.kind not in (Modality.TEXT, "like") and is_existing_file(Path(term.source))
    name = Path(term.source).name if is_file else source[:_MAX_TEXT]
    span = "" if term.span is None else clock_span(term.span.start_s, term.span.end_s)
    caption = f' & "{" ".join(term.caption.split())[:_MAX_TEXT]}"' if term.caption else ""
    return (name if term.kind in (None, Modality.TEXT) else f"{term.kind}:{name}") + span + caption


def _title_of(query: Query) -> str:
    """Return a query in words, as a title."""
    parts: list[str] = []
    for term in query.terms:
        sign = "- " if term.negative or (term.weight or 0) < 0 else "+ " if parts else ""
        factor = "" if term.weight is None else f"{abs(term.weight):g} * "
        parts.append(f"{sign}{factor}{_label(term)}")
    title = " ".join(parts)
    return title if len(title) <= 200 else f"{title[:197]}..."


def _hit(hit: dict[str, Any], labels: Sequence[str], embedder: Embedder) -> Html:
    """Return the card of a hit."""
    is_weak, path = hit["match"] == WEAK, Path(hit["path"])
    modality = Modality(hit["modality"])
    place = Place(path, Path(hit["collection"]), modality, hit["start_s"], hit["end_s"], hit["text"])
    if modality is Modality.TEXT:
        shown = Embedded(problem="the file is gone: it was deleted or moved" if hit["is_missing"] else "")
    else:
        is_small = is_weak and not has_place(hit["located"])
        shown = embedder.thumbnail(place) if is_small else embedder.segment(place)
    name = str(path.relative_to(place.root)) if path.is_relative_to(place.root) else str(path)
    span = clock_span(hit["start_s"], hit["end_s"])
    classes = [*(["wide"] if shown.is_figure else []), *([WEAK] if is_weak else [])]
    match, n = hit["probability"], len(hit["copies"])
    bar = element("meter", min=0, max=1, value=round(match, 3), aria_label=f"match {match:.0%}")
    copies = f"{n} {'copy' if n == 1 else 'copies'}" if n else ""
    return element(
        "li",
        *_located(hit, _media(shown, f"{modality.value} {name}{span}", modality), embedder),
        element("blockquote", hit["text"][:_MAX_TEXT]) if hit["text"] else Html(),
        element("h3", f"{hit['rank']}. ", _link(path, name, hit, modality), span),
        element("div", bar, element("span", hit["match"]), element("span", modality.value), copies, class_="match"),
        element("p", shown.problem, class_="soft") if shown.problem else Html(),
        _details(hit, labels),
        class_=" ".join(classes) or None,
    )


def _located(hit: dict[str, Any], media: Html, embedder: Embedder) -> list[Html]:
    """Return the media of a hit with its places: boxes over a picture, below a figure or a player what is relevant."""
    located = hit["located"]
    if located is None:
        return [media]
    if hit["modality"] == Modality.IMAGE:
        return [located_figure(located, media)]
    picture = embedder.thumbnail(place_of(hit)).picture if located["boxes"] else None
    shown = element("img", src=picture, alt="The picture that the boxes are in", loading="lazy") if picture else Html()
    return [media, located_figure(located, shown)]


def _media(shown: Embedded, name: str, modality: Modality) -> Html:
    """Return the picture and the player of a segment."""
    if shown.clip and modality is Modality.VIDEO:
        return element("video", src=shown.clip, poster=shown.picture, controls=True, preload="none", aria_label=name)
    picture = element("img", src=shown.picture, alt=name, loading="lazy") if shown.picture else Html()
    if not shown.clip:
        return picture
    player = element("audio", src=shown.clip, controls=True, preload="metadata", aria_label=name)
    return joined([picture, player])


def _link(path: Path, name: str, hit: dict[str, Any], modality: Modality) -> Html:
    """Return the name of a file as a link to it, at the span of a recording; of a file that is gone, the name alone."""
    if hit["is_missing"] or not path.is_absolute() or not is_existing_file(path):
        return element("bdi", name)
    is_recording = modality in (Modality.AUDIO, Modality.VIDEO) and hit["start_s"] is not None
    fragment = f"#t={hit['start_s']:g},{hit['end_s']:g}" if is_recording else ""
    return element("a", element("bdi", name), href=path.as_uri() + fragment, rel="noreferrer")


def _details(hit: dict[str, Any], labels: Sequence[str]) -> Html:
    """Return the numbers of a hit, folded: the contribution of each term, cosine and z."""
    header = element("tr", element("th", "term", scope="col"), element("th", "contribution", scope="col"))
    rows = [
        element("tr", element("td", label), element("td", f"{share:+.4f}"))
        for label, share in zip(labels, hit["contributions"], strict=False)
    ]
    table = element("table", element("thead", header), element("tbody", *rows)) if rows else Html()
    numbers = (
        f"match {hit['probability']:.1%}, cosine {hit['cosine']:.4f}, z {hit['z']:.2f}, found by {hit['found_by']}"
    )
    copies = [element("p", "copy: ", element("bdi", copy), class_="soft") for copy in hit["copies"]]
    file = element("p", element("bdi", hit["path"]), class_="soft")
    return element("details", element("summary", "Details"), element("p", numbers, class_="soft"), table, file, *copies)


def _map_figure(found: Mapping[str, Any]) -> Html:
    """Return the map that `collection_map` made: points in SVG, a legend, and a table of the modality gap.

    Points have no names: a page of a few answers does not tell what else is in the store.
    """
    radius = _LARGE_RADIUS if len(found["x"]) < _LARGE_BELOW else _RADIUS

    def place(value: float) -> float:
        return round(radius + (value + 1) / 2 * (_MAP_SIDE - 2 * radius), 1)

    points = zip(found["x"], found["y"], found["modality"], strict=True)
    circles = [
        element("circle", cx=place(x), cy=place(-y), r=radius, class_=f"of-{modality}") for x, y, modality in points
    ]
    shown = [modality.value for modality in Modality if modality.value in found["modality"]]
    dots = {name: element("circle", cx=6, cy=6, r=5, class_=f"of-{name}") for name in shown}
    signs = {name: element("svg", dot, width=12, height=12, aria_hidden="true") for name, dot in dots.items()}
    legend = [element("li", sign, f" {name}, {found['modality'].count(name)}") for name, sign in signs.items()]
    label = f"Map of {len(found['x'])} of {found['segments']} segments by modality"
    chart = element("svg", *circles, viewBox=f"0 0 {_MAP_SIDE} {_MAP_SIDE}", role="img", aria_label=label, class_="map")
    about = (
        f"{label}: points are near each other where their vectors are; distances between groups mean little. The table "
        "has the distance of the means of the unit vectors of each two modalities, 0 to 2."
    )
    names = element("ul", *legend, class_="terms")
    return joined([element("p", about, class_="soft"), names, chart, _gaps(found, shown)])


def _gaps(found: Mapping[str, Any], shown: list[str]) -> Html:
    """Return the gaps as a table, each pair once."""
    cells = {(gap["a"], gap["b"]): f"{gap['distance']:.2f}" for gap in found["gaps"]}
    if not cells:
        return Html()
    header = element("tr", element("td"), *(element("th", name, scope="col") for name in shown[1:]))
    rows = [
        element("tr", element("th", a, scope="row"), *(element("td", cells.get((a, b), "")) for b in shown[1:]))
        for a in shown[:-1]
    ]
    return element("div", element("table", header, *rows), class_="scrolled", tabindex="0")
