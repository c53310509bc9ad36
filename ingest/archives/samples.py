"""Archives as sources: the members of a tar, zip or WebDataset shard, copied out one sample at a time.

In a tar, members in a row with the same path up to the first dot of the file name are one sample (WebDataset): where
there are media among them, `.txt`, `.text`, `.caption` and `.cap` are their caption, the entries of a `.json` and the
word of a `.cls` their columns. In both, "x.jpg.json" is the sidecar of "x.jpg".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bindsearch.errors import MediaError
from bindsearch.ingest.archives.limits import ArchiveLimits as ArchiveLimits
from bindsearch.ingest.archives.limits import Budget, Entry, MemberError, sample_key
from bindsearch.ingest.archives.tar import is_tar, read_tar
from bindsearch.ingest.archives.zip import is_zip, read_zip
from bindsearch.ingest.inspect.classify import has_media_extension
from bindsearch.ingest.media.sidecar import (
    MAX_COLUMNS,
    MAX_SIDECAR_BYTES,
    Scalar,
    Sidecar,
    merge_sidecar,
    parse_columns,
    parse_sidecar,
)
from bindsearch.ingest.media.text import decode_text
from bindsearch.ingest.media.text_fields import normalize_text
from bindsearch.types import Metadata

TAR_NAMES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
ZIP_NAMES = (".zip",)
MAX_NAME_BYTES = 1024
MAX_SAMPLE_MEMBERS = 64
"""A sample of more is taken in parts: frames named shot.0001.png, shot.0002.png, ... are no sample."""

_HEAD_BYTES = 512
_CAPTIONS = (".txt", ".text", ".caption", ".cap")
_CAPTION_KEYS = ("caption", "captions", "text")
_HIDDEN_FOLDER = "__MACOSX"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DRIVE = re.compile(r"[A-Za-z]:")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,16}")


@dataclass(frozen=True, slots=True)
class Member:
    """A member copied out: its bytes lie at `path`, which is the caller's to delete; `name` with forward slashes.

    `sidecar`: what the archive says about it, None where that is nothing.
    """

    name: str
    size_bytes: int
    mtime_ns: int
    sidecar: Sidecar | None
    path: Path


@dataclass(frozen=True, slots=True)
class Skipped:
    """A member that is left out; `name` as a member's, or as it can be printed where it is none. `is_repeated`: one of
    its name has been taken."""

    name: str
    reason: str
    is_repeated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _BufferedMember:
    """A member of the sample at hand: copied to `path`, or `raw` where it may be said about others."""

    name: str
    mtime_ns: int
    size_bytes: int
    path: Path | None = None
    raw: bytes = b""

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()


def archive_kind(path: Path) -> str | None:
    """Return what the name and the first bytes of a file say it is, "tar", "zip" or None; other names are not even
    opened.

    Raises:
        OSError: it cannot be read.
    """
    name = path.name.lower()
    if not name.endswith((*TAR_NAMES, *ZIP_NAMES)):
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if name.endswith(ZIP_NAMES):
        return "zip" if is_zip(head) else None
    return "tar" if is_tar(head) else None


def read_members(
    path: Path, limits: ArchiveLimits, spool: Path, *, wanted: Callable[[str], bool] = lambda _name: True
) -> Iterator[Member | Skipped]:
    """The members of the archive at `path`, copied into the folder `spool` a sample at a time.

    Left out without a word: folders, hidden members, `__MACOSX`, and those whose names are not `wanted`. At most one
    sample is held. Copies that were not given out are deleted when the iterator ends or is closed.

    Raises:
        MediaError: no archive, damaged, cut off, or past a limit; the members before are good.
        OSError: the archive cannot be opened, or a copy not be written.
    """
    kind = archive_kind(path)
    if kind is None:
        raise MediaError("no tar or zip by its name and content")
    budget = Budget(limits, path.stat().st_size)
    reader = _Reader(kind == "tar", limits, spool, wanted)
    try:
        for entry in read_tar(path, budget) if kind == "tar" else read_zip(path, budget):
            yield from reader.take(entry)
        yield from reader.release()
    except MediaError:
        yield from reader.release()
        raise
    finally:
        reader.close()


def safe_name(name: str) -> str:
    """A member's name as a relative path without "." and empty parts; "" for what is hidden.

    Raises:
        MemberError: it leads out of the archive, or cannot be stored.
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
    """Gathers entries into samples. `tar`: whether they are read as WebDataset does."""

    tar: bool
    limits: ArchiveLimits
    spool: Path
    wanted: Callable[[str], bool]
    held: list[_BufferedMember] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    count: int = 0

    def take(self, entry: Entry) -> Iterator[Member | Skipped]:
        """Hold one more member; what is released for it."""
        import xxhash

        name = normalize_text(entry.name) or "?"
        try:
            name = safe_name(entry.name)
            if not name or not (self._is_said(name) or self.wanted(name)):
                return
            digest = xxhash.xxh3_64_intdigest(name.encode())  # the names themselves would fill the memory
            if digest in self.seen:
                yield Skipped(name, "its name comes a second time", is_repeated=True)
                return
            self.seen.add(digest)
            self._check(entry, name)
            if self.held and self._is_full(name, entry.size_bytes):
                yield from self._give([held for held in self.held if not _are_partners(held.name, name)])
            self.held.append(self._hold(entry, name))
        except MemberError as error:
            yield Skipped(name, str(error))

    def release(self) -> Iterator[Member | Skipped]:
        """The members held, with what is said about them."""
        yield from self._give(list(self.held))

    def close(self) -> None:
        """Delete the copies that are held."""
        for held in self.held:
            if held.path is not None:
                held.path.unlink(missing_ok=True)
        self.held = []

    def _check(self, entry: Entry, name: str) -> None:
        if entry.refusal is not None:
            raise MemberError(entry.refusal)
        if name.lower().endswith((*TAR_NAMES, *ZIP_NAMES)):
            raise MemberError("an archive inside an archive is not read: unpack it")
        if entry.size_bytes > self.limits.max_member_bytes:
            raise MemberError(
                f"its {entry.size_bytes} bytes are more than {self.limits.max_member_bytes}: "
                "give a larger --limit member=N"
            )
        if name.lower().endswith(".json") and entry.size_bytes > MAX_SIDECAR_BYTES:
            raise MemberError(f"not media: .json, and too large to be about other members ({entry.size_bytes} bytes)")

    def _is_full(self, name: str, size_bytes: int) -> bool:
        """Return whether what is held is no sample together with this."""
        return (
            sample_key(self.held[-1].name) != sample_key(name)
            or len(self.held) >= MAX_SAMPLE_MEMBERS
            or sum(held.size_bytes for held in self.held) + size_bytes > self.limits.max_member_bytes
        )

    def _is_said(self, name: str) -> bool:
        """Return whether a member may be there to say something about others."""
        suffix = PurePosixPath(name).suffix.lower()
        return suffix == ".json" or (self.tar and suffix in (*_CAPTIONS, ".cls"))

    def _hold(self, entry: Entry, name: str) -> _BufferedMember:
        if self._is_said(name) and entry.size_bytes <= MAX_SIDECAR_BYTES:
            return _BufferedMember(name, entry.mtime_ns, entry.size_bytes, raw=b"".join(entry.content))
        place, size_bytes = self._copy(name, entry.content)
        return _BufferedMember(name, entry.mtime_ns, size_bytes, path=place)

    def _copy(self, name: str, content: Iterable[bytes]) -> tuple[Path, int]:
        """Write a numbered file that keeps the extension; its place and size."""
        suffix = PurePosixPath(name).suffix
        place = self.spool / f"{self.count:08d}{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        self.count += 1
        with place.open("xb") as file:
            try:
                return place, sum(file.write(block) for block in content)
            except BaseException:
                place.unlink()
                raise

    def _give(self, sample: Sequence[_BufferedMember]) -> Iterator[Member | Skipped]:
        """Give out members held as one sample."""
        names = {held.name for held in sample}
        said = [held for held in sample if held.path is None]
        sidecars = {held.name[:-5]: held for held in said if held.suffix == ".json" and held.name[:-5] in names}
        facts = [held for held in said if held not in sidecars.values()]
        texts = [held for held in facts if held.suffix in _CAPTIONS]
        has_media = any(has_media_extension(name) for name in names)
        common = Sidecar()
        if self.tar and (has_media or texts):
            common, problems = _said_of_all(facts, captioned=has_media)
            yield from problems
        for held in sample:
            self.held.remove(held)
            if held.path is not None or (held in texts and not has_media):
                yield from self._member(held, sidecars.get(held.name), common)

    def _member(
        self, held: _BufferedMember, said: _BufferedMember | None, common: Sidecar
    ) -> Iterator[Member | Skipped]:
        try:
            sidecar = parse_sidecar(said.raw) if said else Sidecar()
        except MediaError as error:
            yield Skipped(held.name, f"sidecar {PurePosixPath(held.name).name}.json: {error}")
            if held.path is not None:
                held.path.unlink(missing_ok=True)
            return
        if held.path is None and not self.wanted(held.name):
            return
        place = held.path or self._copy(held.name, [held.raw])[0]
        sidecar = merge_sidecar(sidecar, common.captions, common.columns, common.metadata)
        yield Member(held.name, held.size_bytes, held.mtime_ns, None if sidecar == Sidecar() else sidecar, place)


def _are_partners(one: str, other: str) -> bool:
    """Return whether one is the sidecar of the other, by its name."""
    return one == other + ".json" or other == one + ".json"


def _said_of_all(facts: Sequence[_BufferedMember], *, captioned: bool) -> tuple[Sidecar, list[Skipped]]:
    """Return what the texts, `.json` and `.cls` of a sample say of its media, and those that cannot be read."""
    captions: list[str] = []
    entries: dict[str, object] = {}
    problems = []
    for held in sorted(facts, key=lambda held: held.suffix == ".json"):  # a text beside comes before one inside
        try:
            if held.suffix == ".json":
                found = _json_object(held.raw)
                own = [text for key in _CAPTION_KEYS for text in _texts(found.pop(key, None))]
                captions = captions or own
                entries = {**found, **entries}
            elif held.suffix == ".cls":
                entries["cls"] = _class(decode_text(held.raw).strip())
            elif captioned:
                captions += _texts(decode_text(held.raw))
        except MediaError as error:
            problems.append(Skipped(held.name, str(error)))
    columns, metadata = _readable(entries)
    said = tuple(dict.fromkeys(captions)) if captioned else ()
    return Sidecar(captions=said, columns=columns, metadata=metadata), problems


def _texts(value: object) -> list[str]:
    """A text, or those in a list, that are not blank."""
    texts = value if isinstance(value, list) else [value]
    found = [text.strip() for text in texts if isinstance(text, str)]
    return [text.encode(errors="replace").decode() for text in found if text]


def _json_object(raw: bytes) -> dict[str, object]:
    try:
        found = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise MediaError(f"not JSON ({normalize_text(str(error))})") from error
    if not isinstance(found, dict):
        raise MediaError(f"expected a JSON object, found {type(found).__name__}")
    return found


def _class(text: str) -> str | int:
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else text


def _readable(entries: Mapping[str, object]) -> tuple[dict[str, Scalar], Metadata]:
    """The entries that can be columns; a dataset's own JSON holds all kinds of other things."""
    columns: dict[str, Scalar] = {}
    metadata = Metadata()
    for name, value in entries.items():
        if value is None or len(columns) == MAX_COLUMNS:
            continue
        try:
            column, fact = parse_columns({name: value})
        except MediaError:
            continue
        columns = {**column, **columns}
        metadata = metadata.merge_over(fact)
    return columns, metadata
