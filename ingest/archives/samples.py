"""Archives as sources: the members of a tar, zip or WebDataset shard, extracted one sample at a time.

In a tar, consecutive members with the same path up to the first dot of the file name are one sample (WebDataset): if
there are media among them, `.txt`, `.text`, `.caption` and `.cap` are their caption, and the entries of a `.json` and
the text of a `.cls` their columns. In both formats, "x.jpg.json" is the sidecar of "x.jpg".

Files of one recording of motion that follow each other, as they do in a zip, are extracted together under their names,
so that each finds the others beside it as in a folder; so are a video or sound and its subtitles.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from bindsearch.errors import MediaError
from bindsearch.ingest.archives.limits import ArchiveLimits as ArchiveLimits
from bindsearch.ingest.archives.limits import Budget, Entry, MemberError, sample_key
from bindsearch.ingest.archives.sample_metadata import CAPTIONS, member_sidecar, shared_metadata
from bindsearch.ingest.archives.tar import is_tar, read_tar
from bindsearch.ingest.archives.zip import is_zip, read_zip
from bindsearch.ingest.inspect.extensions import has_media_extension
from bindsearch.ingest.media.foreign.layouts import find_sidecars, foreign_names
from bindsearch.ingest.media.imu.partners import recording_of
from bindsearch.ingest.media.kinds import extensions_of
from bindsearch.ingest.media.sidecar import MAX_SIDECAR_BYTES, Sidecar, merge_sidecars
from bindsearch.ingest.media.subtitles.names import LEFT_OUT, SubtitleNames, pair_subtitles
from bindsearch.ingest.media.text_fields import normalize_text
from bindsearch.media import Note, drop_note
from bindsearch.small_files import open_regular

TAR_NAMES, ZIP_NAMES = extensions_of("tar"), extensions_of("zip")
MAX_NAME_BYTES = 1024
MAX_SAMPLE_MEMBERS = 64
"""A larger sample is processed in parts: frames named shot.0001.png, shot.0002.png, ... are not a sample."""

_HEAD_BYTES = 512
_HIDDEN_FOLDER = "__MACOSX"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PARTS_SUFFIX = ".parts"
_DRIVE = re.compile(r"[A-Za-z]:")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,16}")


@dataclass(frozen=True, slots=True)
class Member:
    """An extracted member.

    Attributes:
        name: its path in the archive, with forward slashes.
        size_bytes: size in bytes.
        mtime_ns: time of the last change, nanoseconds since 1970.
        sidecar: its metadata in the archive; None if there is none.
        path: the extracted file, which the caller deletes by `delete_copy`.
        subtitles: the extracted subtitle files beside it, which are deleted with it.
    """

    name: str
    size_bytes: int
    mtime_ns: int
    sidecar: Sidecar | None
    path: Path
    subtitles: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A member that is skipped.

    Attributes:
        name: as of `Member`, or a printable form of an invalid name.
        reason: why it is skipped.
        is_repeated: a member with the same name came before.
        is_left_out: nothing is lost: its content is that of another member, or read with it.
    """

    name: str
    reason: str
    is_repeated: bool = False
    is_left_out: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _BufferedMember:
    """A member of the current sample: extracted to `path`, or in memory as `raw` if it may be metadata of others."""

    name: str
    mtime_ns: int
    size_bytes: int
    path: Path | None = None
    raw: bytes = b""

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()


def archive_kind(path: Path) -> str | None:
    """Return "tar" or "zip" by the name and the first bytes of a file, else None.

    Files with other extensions are not opened.

    Raises:
        OSError: it cannot be read.
    """
    name = path.name.lower()
    if not name.endswith((*TAR_NAMES, *ZIP_NAMES)):
        return None
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
    if name.endswith(ZIP_NAMES):
        return "zip" if is_zip(head) else None
    return "tar" if is_tar(head) else None


def archive_above(rel_path: str, files: Collection[str]) -> str | None:
    """Return which of some files has the name of an archive and is above a path; None if none does."""
    lower = rel_path.lower()
    if any(f"{suffix}/" in lower for suffix in (*TAR_NAMES, *ZIP_NAMES)):
        while rel_path := rel_path.rpartition("/")[0]:
            if rel_path in files:
                return rel_path
    return None


def read_members(
    path: Path,
    limits: ArchiveLimits,
    spool: Path,
    *,
    wanted: Callable[[str], bool] = lambda _name: True,
    encoding: str | None = None,
    note: Note = drop_note,
) -> Iterator[Member | Skipped]:
    """Yield the members of an archive, extracted one sample at a time.

    Folders, hidden members, `__MACOSX` and unwanted names are skipped silently. At most one sample is buffered. Copies
    that were not yielded are deleted when the iterator ends or is closed.

    Args:
        path: the archive.
        limits: limits beyond which the archive or a member is not read.
        spool: folder for the extracted files.
        wanted: returns whether to extract the member of a name.
        encoding: code page of the names in a zip that do not say theirs; None: it follows from the names.
        note: takes notes of what was inferred about the archive.

    Raises:
        MediaError: no archive, damaged, truncated, or past a limit; the members before are valid.
        OSError: the archive cannot be opened, or a copy cannot be written.
    """
    kind = archive_kind(path)
    if kind is None:
        raise MediaError("not a tar or zip archive, by its name and content")
    budget = Budget(limits, path.stat().st_size)
    reader = _Reader(kind == "tar", limits, spool, wanted)
    try:
        for entry in read_tar(path, budget, note) if kind == "tar" else read_zip(path, budget, encoding, note):
            yield from reader.take(entry)
        yield from reader.emit([*reader.buffered])
    except MediaError:
        yield from reader.emit([*reader.buffered])
        raise
    finally:
        for member in reader.buffered:
            if member.path is not None:
                member.path.unlink(missing_ok=True)


def safe_name(name: str) -> str:
    """Return a member's name as a relative path without "." and empty parts; "" for a hidden member.

    Raises:
        MemberError: it points outside of the archive, or cannot be stored.
    """
    try:
        if len(name.encode()) > MAX_NAME_BYTES:
            raise MemberError(f"a name of more than {MAX_NAME_BYTES} bytes")
    except UnicodeEncodeError:
        raise MemberError("a name that is not UTF-8") from None
    if _CONTROL.search(name):
        raise MemberError("a name with control characters")
    if "\\" in name:
        raise MemberError("a name with a backslash")
    if name.startswith("/") or _DRIVE.match(name):
        raise MemberError("an absolute name")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise MemberError('a name with ".."')
    if any(part.startswith(".") or part == _HIDDEN_FOLDER for part in parts):
        return ""
    return "/".join(parts)


@dataclass
class _Reader:
    """Groups entries into samples; `tar`: as WebDataset does."""

    tar: bool
    limits: ArchiveLimits
    spool: Path
    wanted: Callable[[str], bool]
    buffered: list[_BufferedMember] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    count: int = 0

    def take(self, entry: Entry) -> Iterator[Member | Skipped]:
        """Buffer one more member; yield those that become complete."""
        import xxhash

        # as bytes that are not UTF-8 are shown everywhere
        shown = entry.name.encode("utf-8", "surrogateescape").decode(errors="backslashreplace")
        name = normalize_text(shown) or "?"
        try:
            name = safe_name(entry.name)
            if not name or not (self._is_metadata(name) or self.wanted(name)):
                return
            digest = xxhash.xxh3_64_intdigest(name.encode())  # the names themselves would take too much memory
            if digest in self.seen:
                yield Skipped(name, "a member of the same name came before", is_repeated=True)
                return
            self.seen.add(digest)
            if entry.repeats is not None:
                yield Skipped(name, "a hard link: its content is that of another member", is_left_out=True)
                return
            self._check(entry, name)
            if self.buffered and self._is_full(name, entry.size_bytes):
                yield from self.emit([member for member in self.buffered if not _is_sidecar_pair(member.name, name)])
            self.buffered.append(self._buffer(entry, name))
        except MemberError as error:
            yield Skipped(name, str(error))

    def _check(self, entry: Entry, name: str) -> None:
        if entry.refusal is not None:
            raise MemberError(entry.refusal)
        if name.lower().endswith((*TAR_NAMES, *ZIP_NAMES)):
            raise MemberError("an archive inside an archive is not read: unpack it")
        if entry.size_bytes > self.limits.max_member_bytes:
            raise MemberError(
                f"its {entry.size_bytes} bytes are more than {self.limits.max_member_bytes}: "
                "give a larger --limit member=N to read it"
            )
        if name.lower().endswith(".json") and entry.size_bytes > MAX_SIDECAR_BYTES:
            raise MemberError(f"not media: .json, and too large for metadata of others ({entry.size_bytes} bytes)")

    def _is_full(self, name: str, size_bytes: int) -> bool:
        """Return whether the buffered members are complete without this one."""
        return (
            sample_key(self.buffered[-1].name) != sample_key(name)
            or len(self.buffered) >= MAX_SAMPLE_MEMBERS
            or sum(member.size_bytes for member in self.buffered) + size_bytes > self.limits.max_member_bytes
        )

    def _is_metadata(self, name: str) -> bool:
        """Return whether a member may be metadata of others."""
        suffix = PurePosixPath(name).suffix.lower()
        return suffix == ".json" or (self.tar and suffix in (*CAPTIONS, ".cls"))

    def _buffer(self, entry: Entry, name: str) -> _BufferedMember:
        if self._is_metadata(name) and entry.size_bytes <= MAX_SIDECAR_BYTES:
            return _BufferedMember(name, entry.mtime_ns, entry.size_bytes, raw=b"".join(entry.content))
        path, size_bytes = self._copy(name, entry.content)
        return _BufferedMember(name, entry.mtime_ns, size_bytes, path=path)

    def _copy(self, name: str, content: Iterable[bytes]) -> tuple[Path, int]:
        """Write a numbered file with the member's extension; return its path and size in bytes."""
        path = self.spool / f"{self.count:08d}{_copy_suffix(name)}"
        self.count += 1
        with path.open("xb") as file:
            try:
                return path, sum(file.write(block) for block in content)
            except BaseException:
                path.unlink()
                raise

    def emit(self, sample: Sequence[_BufferedMember]) -> Iterator[Member | Skipped]:
        """Yield members of one sample, with their metadata, and remove them from the buffer."""
        names = {member.name for member in sample}
        metadata_files = [member for member in sample if member.path is None]
        by_name = {member.name: member for member in metadata_files if member.suffix == ".json"}
        found = find_sidecars({*names, *by_name})
        sidecars = {name: by_name[others[0]] for name, others in found.items() if others[0] in by_name}
        shared = [member for member in metadata_files if member not in sidecars.values()]
        texts = [member for member in shared if member.suffix in CAPTIONS]
        has_media = any(has_media_extension(name) for name in names)
        common = Sidecar()
        if self.tar and (has_media or texts):
            common, problems = shared_metadata({member.name: member.raw for member in shared}, captioned=has_media)
            yield from (Skipped(name, reason) for name, reason in problems.items())
        copies = self._with_parts({member.name: member.path for member in sample if member.path is not None})
        pairs = pair_subtitles(copies)
        subtitles = self._with_subtitles(copies, pairs)
        for member in sample:
            self.buffered.remove(member)
            if member.name in pairs.recordings:
                recording = PurePosixPath(pairs.recordings[member.name][0]).name
                yield Skipped(member.name, LEFT_OUT + recording, is_left_out=True)
            elif member.path is not None or (member in texts and not has_media):
                copy = replace(member, path=copies.get(member.name, member.path))
                yield from self._member(copy, sidecars.get(member.name), common, subtitles.get(member.name, ()))

    def _with_parts(self, copies: Mapping[str, Path]) -> dict[str, Path]:
        """Return extracted files by name, those of recordings in several files in folders with links to the others."""
        recordings = {name: recording_of(name, copies.__contains__) for name in copies}
        moved: dict[str, Path] = {}
        for name, recording in recordings.items():
            if recording is None:
                continue
            folder = self._new_folder()
            for file in {recording.main, *recording.parts.values()}:
                _link(copies[file], folder / PurePosixPath(file).name)
            moved[name] = folder / PurePosixPath(name).name
        for name in moved:
            copies[name].unlink()
        return {**copies, **moved}

    def _with_subtitles(self, copies: dict[str, Path], pairs: SubtitleNames) -> dict[str, tuple[Path, ...]]:
        """Move recordings with subtitles in `copies`, each to a folder of its own with links to them; return these."""
        linked = {}
        for name, names in pairs.of_recording.items():
            folder = self._new_folder()
            paths = [folder / f"{place:02d}{_copy_suffix(source)}" for place, source in enumerate(names)]
            for source, target in zip(names, paths, strict=True):
                _link(copies[source], target)
            copies[name] = copies[name].rename(folder / f"recording{_copy_suffix(name)}")
            linked[name] = tuple(paths)
        for name in pairs.recordings:
            copies[name].unlink()
        return linked

    def _new_folder(self) -> Path:
        """Return a new folder for files that belong together."""
        folder = self.spool / f"{self.count:08d}{_PARTS_SUFFIX}"
        self.count += 1
        folder.mkdir()
        return folder

    def _member(
        self,
        member: _BufferedMember,
        sidecar_file: _BufferedMember | None,
        common: Sidecar,
        subtitles: tuple[Path, ...] = (),
    ) -> Iterator[Member | Skipped]:
        try:
            sidecar = member_sidecar(sidecar_file.name, sidecar_file.raw, member.name) if sidecar_file else Sidecar()
        except MediaError as error:
            yield Skipped(member.name, str(error))
            if member.path is not None:
                delete_copy(member.path)
            return
        if member.path is None and not self.wanted(member.name):
            return
        path = member.path or self._copy(member.name, [member.raw])[0]
        sidecar = merge_sidecars(sidecar, common)
        said = None if sidecar == Sidecar() else sidecar
        yield Member(member.name, member.size_bytes, member.mtime_ns, said, path, subtitles)


def delete_copy(path: Path) -> None:
    """Delete an extracted file, with the parts of a recording, or the subtitles, extracted beside it."""
    path.unlink(missing_ok=True)
    if path.parent.suffix == _PARTS_SUFFIX:
        shutil.rmtree(path.parent, ignore_errors=True)


def _copy_suffix(name: str) -> str:
    """Return the extension of a member's name if it is a usual one; else none."""
    suffix = PurePosixPath(name).suffix
    return suffix if _SUFFIX.fullmatch(suffix) else ""


def _link(source: Path, target: Path) -> None:
    """Make a file available under a second path: by a link, else by a copy."""
    try:
        target.hardlink_to(source)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _is_sidecar_pair(first: str, second: str) -> bool:
    """Return whether one of two members is the sidecar of the other, by their names."""
    return second in (first + ".json", *foreign_names(first)) or first in (second + ".json", *foreign_names(second))
