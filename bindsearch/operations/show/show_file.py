"""One file as an indexing run reads it: classification, notes and measured values, segments, and the chosen segment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bindsearch.arguments import is_existing_file, to_absolute, to_path
from bindsearch.encoders.base import Encoder
from bindsearch.environment import check_libraries
from bindsearch.errors import MediaError, UsageError
from bindsearch.ingest.dry_run import classify_container
from bindsearch.ingest.inspect.find_file import find_listed
from bindsearch.ingest.inspect.folder_settings import SETTINGS_FILE, read_folder_settings
from bindsearch.ingest.inspect.inspect_file import InspectOptions, SourceFile, inspect_file
from bindsearch.ingest.inspect.rules import Rule
from bindsearch.ingest.media.decode import DecodedSegment, pieces, reason_of, required_libraries
from bindsearch.ingest.media.subtitles.names import subtitles_beside
from bindsearch.ingest.scan.target import IndexOptions
from bindsearch.media import NO_CONTENT, missing_content
from bindsearch.search.query import LIKE, Term
from bindsearch.search.query_syntax import parse_query
from bindsearch.storage.file_state import UNKNOWN_STATE
from bindsearch.types import Modality, PathLike

MAX_LISTED = 10_000
"""Maximum number of segments that are listed; more are counted (a day of sound has 8,640)."""


@dataclass(frozen=True, slots=True)
class ShownSegment:
    """A segment of a file.

    Attributes:
        modality: Modality of the segment.
        start_s: Start of a span in seconds; None: not a span.
        end_s: End of a span in seconds; None: not a span.
        text: Text of a passage; None: not a text.
        left_out: Reason why it gets no vector; empty if it gets one.
    """

    modality: Modality
    start_s: float | None
    end_s: float | None
    text: str | None
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class ShownFile:
    """A file as an indexing run reads it.

    Attributes:
        path: The file.
        root: Folder that paths in rules are relative to.
        encoder: Name of the encoder.
        modality: Modality that it is indexed as; None: it is left out, or its sidecar is damaged.
        why: What decided the modality, or why the file is left out.
        problem: Reason why indexing it fails; empty if it does not.
        notes: What was inferred, converted, repaired or left out.
        measured: Values by the name of a metadata column, such as {"rate_hz": 50.0}.
        segments: The first MAX_LISTED segments.
        counts: Number of all segments by modality.
        number: Number of the chosen segment, from 1; 0: there is none.
        chosen: The chosen segment, decoded; None: there is none.
    """

    path: Path
    root: Path
    encoder: str
    modality: Modality | None = None
    why: str = ""
    problem: str = ""
    notes: tuple[str, ...] = ()
    measured: Mapping[str, float] = field(default_factory=dict)
    segments: tuple[ShownSegment, ...] = ()
    counts: Mapping[Modality, int] = field(default_factory=dict)
    number: int = 0
    chosen: DecodedSegment | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The segment to show: its number from 1, or the first one at a time in seconds.

    Raises:
        UsageError: both are given, the number is below 1, or the time is below 0.
    """

    number: int | None = None
    at_s: float | None = None

    def __post_init__(self) -> None:
        if self.number is not None and self.at_s is not None:
            raise UsageError("a segment is chosen by its number or by a time: give one of them")
        if self.number is not None and self.number < 1:
            raise UsageError(f"the segment is {self.number}: segments are numbered from 1")
        if self.at_s is not None and not 0 <= self.at_s < float("inf"):
            raise UsageError(f"the time is {self.at_s:g} s: give seconds from the beginning, 0 or more")

    def is_met_by(self, number: int, segment: DecodedSegment) -> bool:
        """Return whether `segment`, the `number`-th of a file, is the chosen one."""
        if self.at_s is None:
            return number == (self.number or 1)
        start_s, end_s = segment.start_s, segment.end_s
        return start_s is not None and end_s is not None and start_s <= self.at_s < end_s

    def describe(self) -> str:
        """Return the choice in words: "segment 3"."""
        return f"segment {self.number or 1}" if self.at_s is None else f"segment at {self.at_s:g} s"


def parse_file(text: str) -> Term:
    """Return the term of a file given as FILE, MODALITY:FILE or FILE@10s-20s, the syntax of queries.

    A file that exists under the whole text is that file.

    Raises:
        UsageError: there is no such file, or the text is another query.
    """
    if is_existing_file(to_path(text)):
        return Term(None, text)
    terms = parse_query(text).terms
    if len(terms) != 1 or terms[0].weight is not None or terms[0].negative or terms[0].kind == LIKE:
        raise UsageError(f"{text!r} is not a file: give FILE, MODALITY:FILE or FILE@10s-20s, quoted as in a query")
    path = to_path(terms[0].source)
    if not is_existing_file(path):
        problem = "is a folder: give one file" if path.is_dir() else "does not exist: check the path"
        raise UsageError(f"the file {path} {problem}")
    return terms[0]


def show_file(term: Term, root: Path, encoder: Encoder, options: IndexOptions, choice: Choice) -> ShownFile:
    """Read one file as an indexing run of `root` does, without embedding it.

    Args:
        term: The file; its kind sets the modality, its span limits what is decoded.
        root: Folder that paths in rules are relative to.
        encoder: Encoder that the segments are for.
        options: Options of the run; rules of the folder follow those.
        choice: The segment whose content is kept.

    Raises:
        UsageError: a rule is invalid, or there is no such segment.
        InstallationError: a library that decoding needs cannot be loaded.
    """
    path = _absolute(term)
    rel_path = path.relative_to(root).as_posix()
    given = () if term.kind is None else (Rule(Modality(term.kind), "**"),)
    settings = read_folder_settings(root)
    rules = (*given, *options.rules, *settings.rules)
    shown = ShownFile(path, root, encoder.name)
    if (container := classify_container(path)) is not None:
        return replace(shown, why=container.why)
    damaged: list[str] = []

    def on_damage(manifest: Path, error: Exception) -> None:
        damaged.append(f"the manifest {manifest} is not used: {reason_of(error)}")

    listed = find_listed(path, root, on_damage=on_damage, limits=options.lists)
    shown = replace(shown, notes=tuple(damaged))
    inspect = InspectOptions(rules, encoder.modalities, root.name, settings.facts)
    subtitles = subtitles_beside(path)
    try:
        found = inspect_file(SourceFile(path, rel_path, UNKNOWN_STATE, listed=listed, subtitles=subtitles), inspect)
    except (MediaError, OSError) as error:
        return replace(shown, problem=reason_of(error))
    verdict = found.verdict
    if term.kind is not None and verdict.modality is not None:
        verdict = replace(verdict, why=f"given as {term.kind}")
    if verdict.modality is None:
        why = verdict.why if found.refused is None else f"the encoder {encoder.name} cannot embed {found.refused}"
        return replace(shown, why=why)
    shown = replace(shown, modality=verdict.modality, why=verdict.why)
    check_libraries(required_libraries(encoder, [verdict.modality]))
    try:
        segments = pieces(
            path,
            verdict.modality,
            wants=encoder.wants,
            options=options.decode,
            sidecar=found.sidecar,
            count_tokens=encoder.count_tokens,
            max_tokens=encoder.max_tokens,
            span=term.span,
            subtitles=subtitles,
        )
        return _decode(shown, segments, encoder, choice)
    except MediaError as error:
        return replace(shown, problem=str(error))


def find_root(term: Term, given: PathLike | None, roots: Iterable[Path]) -> Path:
    """Return the folder whose rules apply to a file.

    Args:
        term: The file.
        given: A folder that contains it; None: the innermost collection that does, else the nearest folder above it
            with rules, else its own folder.
        roots: Roots of the collections.

    Raises:
        UsageError: the given folder does not contain the file.
    """
    path = _absolute(term)
    if given is not None:
        root = to_absolute(given)
        if not (root.is_dir() and path.is_relative_to(root)):
            raise UsageError(f"{root} is not a folder that contains {path}: give the folder that is indexed")
        return root
    inside = [root for root in roots if path.is_relative_to(root)]
    if inside:
        return max(inside, key=lambda root: len(root.parts))
    return next((folder for folder in path.parents if is_existing_file(folder / SETTINGS_FILE)), path.parent)


def _absolute(term: Term) -> Path:
    """Return the absolute path of a file; the links in it are followed, but not the file itself if it is one."""
    path = to_path(term.source)
    return to_absolute(path.parent) / path.name


def _decode(shown: ShownFile, decoded: Iterable[DecodedSegment], encoder: Encoder, choice: Choice) -> ShownFile:
    """Decode a file completely, by its segments; only the chosen segment is kept; raise UsageError if it is missing."""
    segments: list[ShownSegment] = []
    counts: Counter[Modality] = Counter()
    notes = list(shown.notes)
    measured: dict[str, float] = {}
    number, chosen = 0, None
    reasons: set[str] = set()
    for place, piece in enumerate(decoded, 1):
        notes += piece.reading.notes
        measured.update(piece.reading.facts)
        counts[piece.modality] += 1
        content = missing_content(piece.media)
        reason = "" if content is None else NO_CONTENT + content
        if piece.modality not in encoder.modalities:
            reason = f"the encoder {encoder.name} cannot embed {piece.modality}"
        reasons.add(reason)
        if place <= MAX_LISTED:
            segments.append(ShownSegment(piece.modality, piece.start_s, piece.end_s, piece.text, reason))
        if chosen is None and choice.is_met_by(place, piece):
            number, chosen = place, piece
    if "" not in reasons:
        raise MediaError(", ".join(sorted(reasons)))
    if chosen is None:
        total = sum(counts.values())
        raise UsageError(f"{shown.path} has no {choice.describe()}: it has {total} segment{'' if total == 1 else 's'}")
    shown = replace(shown, notes=tuple(dict.fromkeys(notes)), measured=measured, segments=tuple(segments))
    return replace(shown, counts=dict(counts), number=number, chosen=chosen)
