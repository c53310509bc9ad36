"""One indexing run over a collection: scan, compare with the catalog, decode and embed what is new, commit, sweep."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bindsearch.catalog import UNKNOWN_STATE, Catalog, Failure, KnownFile
from bindsearch.encoders.base import Encoder
from bindsearch.errors import MediaError
from bindsearch.hashing import fingerprint_of, hash_file
from bindsearch.ingest.classify import Rule, Verdict, classify, rule_for
from bindsearch.ingest.embed import Decoded, EmbeddedFile, embed_files
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.report import FailedFile, IndexReport, OnProgress, PlannedFile, Progress
from bindsearch.ingest.segments import Piece, describe, pieces
from bindsearch.ingest.sidecar import Sidecar, read_sidecar, sidecar_path
from bindsearch.ingest.sources import FoundFile, Scan, scan
from bindsearch.ingest.staged import StagedBatch, StagedItem
from bindsearch.ingest.writer import Writer
from bindsearch.items import Modality

COMMIT_SEGMENTS = 2048
COMMIT_FILES = 4096
COMMIT_SECONDS = 2.0
"""A batch is committed when it holds this much or is this old: what a kill can cost."""

PADDING_SHOWN_S = 0.05
"""Less missing motion than this is a matter of rounding and not worth a word."""


@dataclass(frozen=True)
class Target:
    """What to index: all at or under `root / prefix` but `skipped_folders` (other collections, the store)."""

    collection_id: int
    root: Path
    prefix: str
    skipped_folders: frozenset[Path]


@dataclass(frozen=True)
class IndexOptions:
    """How to index: classification rules (first match wins), decoder options, whether to try failed files again."""

    rules: Sequence[Rule]
    decode: DecodeOptions
    retry_failed: bool = False


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a decoder thread found out about a file; `unchanged`: its content is what the catalog holds already;
    `refused`: the modality of a file that is left out because the encoder has no tower for it; `columns`: the user's
    own, as JSON."""

    verdict: Verdict
    content_hash: str = ""
    fingerprint: str = ""
    unchanged: bool = False
    refused: Modality | None = None
    columns: str | None = None


def plan_collection(target: Target, options: IndexOptions) -> Iterator[PlannedFile]:
    """What each file would be taken for, and why; nothing is decoded or written."""
    for file in scan(target.root, target.prefix, target.skipped_folders).files:
        verdict = classify(file.path, file.rel_path, options.rules)
        note = ""
        if verdict.modality is not None:
            try:
                note = describe(file.path, verdict.modality, read_sidecar(file.path), options.decode)
            except MediaError as error:
                note = f"would fail: {error}"
        yield PlannedFile(file.path, verdict.modality, verdict.why, note)


def index_collection(
    target: Target,
    options: IndexOptions,
    catalog: Catalog,
    writer: Writer,
    encoder: Encoder,
    report: IndexReport,
    on_progress: OnProgress,
) -> None:
    """Bring the catalog up to date with the files of `target`; counts go into `report`."""
    known = catalog.known_files(target.collection_id, target.prefix)
    found = scan(target.root, target.prefix, target.skipped_folders)
    work = [file for file in found.files if _needs_work(file, known.get(file.rel_path), options)]
    _count_settled(target, found.files, {file.rel_path for file in work}, known, report)
    # Closed at once when the run is interrupted, so that no decoder thread outlives it.
    embedding = closing(embed_files(work, _Decoder(options, known, encoder), encoder))
    remarks = _Remarks()
    on_progress(Progress(0, len(work), report.failed, 0))
    with _Committer(writer) as committer, embedding as embedded_files:
        for name in found.not_utf8:
            _stage_bad_name(target, name, committer.batch, report)
        for done, embedded in enumerate(embedded_files, start=1):
            _stage(target, embedded, known.get(embedded.file.rel_path), committer.batch, report)
            remarks.add(embedded, encoder.wants.motion_s)
            committer.commit_if_due(len(embedded.segments))
            on_progress(Progress(done, len(work), report.failed, committer.segments))
        _sweep(target, found, known, committer.batch, report)
    report.notices.extend(remarks.notices(encoder))


class _Remarks:
    """What a user should know of files that were indexed or left out as they should be."""

    def __init__(self) -> None:
        self._padded = 0
        self._refused: Counter[Modality] = Counter()

    def add(self, embedded: EmbeddedFile, motion_s: float) -> None:
        """Count one file; motion shorter than `motion_s` was padded by the encoder."""
        if embedded.facts is not None and embedded.facts.refused is not None:
            self._refused[embedded.facts.refused] += 1
        self._padded += sum(
            segment.modality is Modality.IMU
            and segment.start_s is not None
            and segment.end_s is not None
            and segment.end_s - segment.start_s < motion_s - PADDING_SHOWN_S
            for segment in embedded.segments
        )

    def notices(self, encoder: Encoder) -> Iterator[str]:
        """One line each."""
        if self._refused:
            counts = ", ".join(f"{n} {modality}" for modality, n in sorted(self._refused.items()))
            yield f"left out, since the encoder {encoder.name} cannot embed them: {counts}"
        if self._padded:
            yield (
                f"motion segments shorter than the {encoder.wants.motion_s:g} s that {encoder.name} looks at: "
                f"{self._padded}, each padded with its last sample"
            )


def _needs_work(file: FoundFile, known: KnownFile | None, options: IndexOptions) -> bool:
    if known is None or known.state != file.state:
        return True
    rule = rule_for(file.rel_path, options.rules)
    if known.item_id is None:  # it failed; what its message asked for may be given now
        return options.retry_failed or rule is not None or options.decode.imu_rate_hz is not None
    return rule is not None and rule.modality is not known.modality


def _count_settled(
    target: Target, files: Sequence[FoundFile], working: set[str], known: dict[str, KnownFile], report: IndexReport
) -> None:
    for file in files:
        before = known.get(file.rel_path)
        if before is None or file.rel_path in working:
            continue
        if before.item_id is not None:
            report.unchanged += 1
        elif before.reason is not None:
            report.failures.append(FailedFile(target.root / file.rel_path, before.reason))


class _Decoder:
    """Reads one file in a decoder thread: what it is, whether it changed, and its segments."""

    def __init__(self, options: IndexOptions, known: dict[str, KnownFile], encoder: Encoder) -> None:
        self._options = options
        self._known = known
        self._encoder = encoder

    def __call__(self, file: FoundFile) -> Decoded:
        verdict = classify(file.path, file.rel_path, self._options.rules)
        if verdict.modality is None:
            return Decoded(_Facts(verdict), iter(()))
        if verdict.modality not in self._encoder.modalities:
            return Decoded(_Facts(Verdict(None, "the encoder cannot embed it"), refused=verdict.modality), iter(()))
        sidecar = read_sidecar(file.path)
        content_hash = hash_file(file.path)
        sidecar_hash = hash_file(sidecar_path(file.path)) if file.state.facts_stamp else ""
        fingerprint = fingerprint_of(content_hash, sidecar_hash, verdict.modality.value)
        before = self._known.get(file.rel_path)
        unchanged = before is not None and before.fingerprint == fingerprint
        columns = json.dumps(dict(sidecar.columns), ensure_ascii=False) if sidecar.columns else None
        facts = _Facts(verdict, content_hash, fingerprint, unchanged, columns=columns)
        return Decoded(facts, iter(()) if unchanged else self._pieces(file, verdict.modality, sidecar))

    def _pieces(self, file: FoundFile, modality: Modality, sidecar: Sidecar) -> Iterator[Piece]:
        """What the encoder can embed of the file: without ears it takes a video's pictures and leaves the sound."""
        found = pieces(
            file.path,
            modality,
            wants=self._encoder.wants,
            options=self._options.decode,
            sidecar=sidecar,
            count_tokens=self._encoder.count_tokens,
            max_tokens=self._encoder.max_tokens,
        )
        left_out: set[Modality] = set()
        empty = True
        for piece in found:
            if piece.modality in self._encoder.modalities:
                empty = False
                yield piece
            else:
                left_out.add(piece.modality)
        if empty:
            raise MediaError(
                f"it holds only {', '.join(left_out)}, which the encoder {self._encoder.name} cannot embed"
            )


def _stage(
    target: Target, embedded: EmbeddedFile, before: KnownFile | None, batch: StagedBatch, report: IndexReport
) -> None:
    file, facts = embedded.file, embedded.facts
    old_item = before.item_id if before is not None else None
    if before is not None and before.reason is not None and embedded.reason is None:
        batch.forgotten_failures.append((target.collection_id, file.rel_path))
    if embedded.reason is not None:
        state = UNKNOWN_STATE if embedded.failed_for_now else file.state
        batch.failures.append(Failure(target.collection_id, file.rel_path, state, embedded.reason))
        report.failures.append(FailedFile(file.path, embedded.reason))
        if old_item is not None and not embedded.failed_for_now:
            batch.removed.append(old_item)
    elif facts.verdict.modality is None:
        if old_item is not None:
            batch.removed.append(old_item)
            report.removed += 1
    elif facts.unchanged and old_item is not None:
        batch.touched[old_item] = file.state
        report.unchanged += 1
    else:
        held = [segment.modality for segment in embedded.segments]
        wanted = facts.verdict.modality
        batch.items.append(
            StagedItem(
                item_id=old_item,
                collection_id=target.collection_id,
                rel_path=file.rel_path,
                modality=wanted if wanted in held else held[0],  # an mp4 without a picture is a sound
                state=file.state,
                content_hash=facts.content_hash,
                fingerprint=facts.fingerprint,
                segments=tuple(embedded.segments),
                columns=facts.columns,
            )
        )
        if old_item is None:
            report.added += 1
        else:
            report.changed += 1


def _stage_bad_name(target: Target, path: bytes, batch: StagedBatch, report: IndexReport) -> None:
    """Record a file whose name cannot be stored, under an escaped one."""
    shown = Path(path.decode(errors="backslashreplace"))
    reason = "its name is not UTF-8: rename it"
    batch.failures.append(
        Failure(target.collection_id, shown.relative_to(target.root).as_posix(), UNKNOWN_STATE, reason)
    )
    report.failures.append(FailedFile(shown, reason))


def _sweep(target: Target, found: Scan, known: dict[str, KnownFile], batch: StagedBatch, report: IndexReport) -> None:
    """Remove what is gone. Nothing is swept below a folder that could not be read, nor when all has vanished at once:
    a disk that is not mounted looks like an empty folder."""
    here = {file.rel_path for file in found.files}
    here |= {failure.rel_path for failure in batch.failures}
    gone = {path: file for path, file in known.items() if path not in here}
    for place in found.unreadable:
        below = f"{place}/" if place else ""
        kept = [path for path in gone if path == place or path.startswith(below)]
        for path in kept:
            del gone[path]
        report.notices.append(
            f"cannot read {target.root / place}: what is indexed there stays ({len(kept)} files); check its permissions"
        )
    if gone and not here and (target.root / target.prefix).is_dir():
        report.notices.append(
            f"{target.root / target.prefix} is suddenly empty: its {len(gone)} indexed files stay; "
            "if they are really gone, leave one file there and index again"
        )
        return
    for path, file in gone.items():
        if file.item_id is not None:
            batch.removed.append(file.item_id)
            report.removed += 1
        else:
            batch.forgotten_failures.append((target.collection_id, path))


class _Committer:
    """Commits batches in a thread of its own, one at a time, while the next one fills."""

    def __init__(self, writer: Writer) -> None:
        self.batch = StagedBatch()
        self.segments = 0
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._pending: Future[None] | None = None
        self._staged_files = 0
        self._staged_segments = 0
        self._last = time.monotonic()

    def __enter__(self) -> _Committer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None or kind is KeyboardInterrupt:  # what is finished is not thrown away
                self._commit()
            self._wait()
        finally:
            self._thread.shutdown()

    def commit_if_due(self, new_segments: int) -> None:
        """Count the segments of one more file, and commit what is staged when it is much or old."""
        self._staged_files += 1
        self._staged_segments += new_segments
        old = time.monotonic() - self._last > COMMIT_SECONDS
        if old or self._staged_files >= COMMIT_FILES or self._staged_segments >= COMMIT_SEGMENTS:
            self._commit()

    def _commit(self) -> None:
        self._wait()
        self._last = time.monotonic()
        self.segments += self._staged_segments
        self._staged_files = self._staged_segments = 0
        if self.batch.is_empty:
            return
        batch, self.batch = self.batch, StagedBatch()
        self._pending = self._thread.submit(self._writer.commit, batch)

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None
