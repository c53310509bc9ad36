"""One file from the web: goes on where it stopped, and is whole or not there.

While it comes, `<place>.part` holds the bytes and `<place>.part.json` says which file on which server they belong to.
The note stays with the finished file, so that asking for it again costs no request.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from email.message import Message
from hashlib import sha256
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from bindsearch.atomic import atomic_write, sync_folder
from bindsearch.errors import EncoderError, UsageError

OnProgress = Callable[[int, int | None], None]
"""Called with the bytes done and their total, None where the server does not tell."""

BLOCK_BYTES = 1 << 20
TRIES = 6
TIMEOUT_S = 30.0
LONGEST_DELAY_S = 30.0
SPARE_BYTES = 64 << 20
"""Left free on the disk, for whoever else writes there."""

_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


def ignore_progress(_done: int, _total: int | None) -> None:
    """Progress for nobody."""


class NotFoundError(EncoderError):
    """The server has no such file; a mirror may have it."""


@dataclass(frozen=True, slots=True)
class DownloadedFile:
    """A whole file; `sha256` is over all its bytes, however many requests they took."""

    path: Path
    size_bytes: int
    sha256: str


def download(
    url: str,
    place: Path,
    *,
    on_progress: OnProgress = ignore_progress,
    reserve_bytes: int = 0,
    tries: int = TRIES,
    delay_s: float = 1.0,
    timeout_s: float = TIMEOUT_S,
) -> DownloadedFile:
    """Bring `url` to `place`; a cut or killed download goes on from the bytes that are there.

    `reserve_bytes`: disk space to be free beyond the file's own. `tries`: requests in a row that may bring nothing;
    between them it waits `delay_s`, then twice that, and so on. `timeout_s`: longest silence of the server.

    Raises:
        UsageError: it is no http or https URL.
        NotFoundError: the server has no such file.
        EncoderError: the server cannot be reached or refuses, too many tries failed, or the disk is full.
    """
    check_url(url)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if kept := _kept(url, place, on_progress):
            return kept
        transfer = _Transfer(url, place, on_progress, reserve_bytes, timeout_s)
        _fetch(transfer, tries, delay_s)
        return transfer.finish()
    except OSError as error:  # those of the network were answered before
        raise EncoderError(f"cannot write {place}: {error.strerror or error}") from error


def check_url(url: str) -> None:
    """Refuse what is not plain http or https.

    Raises:
        UsageError: another scheme, no host, or a password in it, which would end up in messages and manifests.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"cannot download {url!r}: expected http://HOST/... or https://HOST/..., without a password")


def check_space(folder: Path, need_bytes: int, what: str) -> None:
    """Refuse to begin what would fill the disk.

    Raises:
        EncoderError: fewer than `need_bytes` are free where `folder` lies.
    """
    free = shutil.disk_usage(folder).free
    if free < need_bytes + SPARE_BYTES:
        raise EncoderError(
            f"not enough disk space for {what}: it needs {need_bytes / 1e9:.2f} GB in {folder}, "
            f"{free / 1e9:.2f} GB are free; free some, or set BINDSEARCH_MODELS to a folder on another disk"
        )


def hash_sha256(path: Path, on_progress: OnProgress = ignore_progress) -> str:
    """SHA-256 of a file, hex: what publishers state, unlike the quicker xxh3 for our own files.

    Raises:
        OSError: it cannot be read.
    """
    digest, done, total = sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            on_progress(done, total)
    return digest.hexdigest()


def part_of(place: Path) -> Path:
    """Return where the bytes of an unfinished download are."""
    return place.with_name(f"{place.name}.part")


def note_of(place: Path) -> Path:
    """Return where it is written which file they are of."""
    return place.with_name(f"{place.name}.part.json")


def _fetch(transfer: _Transfer, tries: int, delay_s: float) -> None:
    failed = 0
    while not transfer.is_complete():
        before = transfer.furthest
        try:
            transfer.attempt()
        except _StoppedError as stop:
            failed = 1 if transfer.furthest - before >= BLOCK_BYTES else failed + 1
            if failed >= tries or (stop.is_final and not transfer.furthest):
                raise EncoderError(f"cannot download {transfer.url}: {stop}{transfer.resume_hint()}") from stop
            time.sleep(min(delay_s * 2 ** (failed - 1), LONGEST_DELAY_S))


def _kept(url: str, place: Path, on_progress: OnProgress) -> DownloadedFile | None:
    note = _Note.read(note_of(place))
    if note is None or note.url != url or not note.sha256 or not place.is_file():
        return None
    size = place.stat().st_size
    if size != note.total_bytes or hash_sha256(place, on_progress) != note.sha256:
        return None
    return DownloadedFile(place, size, note.sha256)


@dataclass(frozen=True, slots=True)
class _Note:
    """Identity of the file that a part belongs to: `etag` and `last_modified` as its server gave them; `sha256` once it
    is whole."""

    url: str
    etag: str = ""
    last_modified: str = ""
    total_bytes: int | None = None
    sha256: str = ""

    @classmethod
    def read(cls, path: Path) -> _Note | None:
        """The note at `path`; None where there is none to go by."""
        try:
            note = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        texts = (note.url, note.etag, note.last_modified, note.sha256)
        whole = all(isinstance(text, str) for text in texts) and isinstance(note.total_bytes, int | None)
        return note if whole else None

    @property
    def validator(self) -> str:
        """What If-Range takes (RFC 9110, 13.1.5): a strong ETag, else the date; empty: going on is not safe."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class _StoppedError(Exception):
    """A request brought no whole file; another may. `is_final`: not if it was the first."""

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class _Transfer:
    """A download under way: the part on disk, its note, and how far this process came."""

    def __init__(self, url: str, place: Path, on_progress: OnProgress, reserve_bytes: int, timeout_s: float) -> None:
        self.url = url
        self.furthest = 0
        self._place = place
        self._part, self._note_path = part_of(place), note_of(place)
        self._on_progress = on_progress
        self._reserve_bytes = reserve_bytes
        self._timeout_s = timeout_s
        self._note = _Note.read(self._note_path)
        self._ended = False

    def attempt(self) -> None:
        """One request for what is missing.

        Raises:
            _StoppedError: it brought some of it, or nothing.
        """
        offset = self._offset()
        headers = {"User-Agent": "bindsearch", "Accept-Encoding": "identity"}
        if offset and self._note is not None:
            headers |= {"Range": f"bytes={offset}-", "If-Range": self._note.validator}
        with self._open(headers, offset) as response:
            if response.status == 206:
                self._check_range(response, offset)
                self._check_space(_length(response) or 0)
            else:
                offset = 0
                self._begin(response)
            self._receive(response, offset)

    def is_complete(self) -> bool:
        """Return whether all bytes are there."""
        if self._note is None or self._note.url != self.url or not self._part.is_file():
            return False
        return self._ended or (self._note.total_bytes is not None and self._offset() == self._note.total_bytes)

    def resume_hint(self) -> str:
        """Return what is left to do after the last try, for the end of a message."""
        offset = self._offset()
        return f"; {offset:,} bytes are downloaded, run the same command to resume" if offset else ""

    def finish(self) -> DownloadedFile:
        """Give the whole file its name."""
        with self._part.open("rb") as file:
            os.fsync(file.fileno())
        size, digest = self._part.stat().st_size, hash_sha256(self._part)
        self._write_note(replace(self._note or _Note(self.url), total_bytes=size, sha256=digest))
        self._part.replace(self._place)
        sync_folder(self._place.parent)
        return DownloadedFile(self._place, size, digest)

    def _offset(self) -> int:
        """Bytes of the part that a request may leave out; 0 where it is not known whose they are."""
        note = self._note
        if note is None or note.url != self.url or not note.validator or not self._part.is_file():
            return 0
        size = self._part.stat().st_size
        return size if note.total_bytes is None or size <= note.total_bytes else 0

    def _open(self, headers: dict[str, str], offset: int) -> HTTPResponse:
        try:
            response = build_opener(_Redirects).open(Request(self.url, headers=headers), timeout=self._timeout_s)
        except HTTPError as error:
            with error:
                raise self._answer(error, offset) from None
        except (InvalidURL, UnicodeError) as error:
            raise UsageError(f"cannot download {self.url!r}: {error}") from None
        except (OSError, HTTPException) as error:
            raise _unreachable(self.url, error) from error
        assert isinstance(response, HTTPResponse)
        return response

    def _answer(self, error: HTTPError, offset: int) -> Exception:
        status = " ".join(f"HTTP {error.code} {error.reason}".split())  # urllib's own reasons have several lines
        if error.code == 416 and offset:
            self._discard()
            return _StoppedError("the file on the server has changed")
        if error.code in _PASSING_STATUS:
            return _StoppedError(f"the server answers {status}")
        if error.code in (404, 410):
            return NotFoundError(f"cannot download {self.url}: it is not there ({status}); give a mirror or a file")
        return EncoderError(f"cannot download {self.url}: the server answers {status}")

    def _check_range(self, response: HTTPResponse, offset: int) -> None:
        """Return whether a 206 continues the file that was begun."""
        unit, _, extent = response.headers.get("Content-Range", "").partition(" ")
        span, _, total = extent.partition("/")
        same_etag = self._note is None or response.headers.get("ETag", self._note.etag) == self._note.etag
        known = str(self._note.total_bytes) if self._note and self._note.total_bytes is not None else total
        if unit != "bytes" or not span.startswith(f"{offset}-") or total != known or not same_etag:
            self._discard()
            raise _StoppedError("the file on the server has changed")

    def _begin(self, response: HTTPResponse) -> None:
        """Start from the first byte, with a note of whose it is."""
        # First the old bytes go, then the note names the new file: never one's bytes under the other's name.
        self._discard()
        length = _length(response)
        if length is None and not response.chunked:
            raise EncoderError(
                f"cannot download {self.url}: the server does not say how long it is, so that a cut would go unseen; "
                "give a mirror or a file"
            )
        self._check_space(length or 0)
        self._write_note(
            _Note(
                url=self.url,
                etag=response.headers.get("ETag", ""),
                last_modified=response.headers.get("Last-Modified", ""),
                total_bytes=length,
            )
        )

    def _receive(self, response: HTTPResponse, offset: int) -> None:
        total = self._note.total_bytes if self._note else None
        self._on_progress(offset, total)
        done = offset
        # Unbuffered, so that a killed process leaves all it received.
        with self._part.open("r+b" if offset else "wb", buffering=0) as file:
            file.seek(offset)
            while block := _read(response):
                file.write(block)
                done += len(block)
                self.furthest = max(self.furthest, done)
                self._on_progress(done, total)
        if total is not None and done != total:
            raise _StoppedError(f"the connection ended after {done:,} of {total:,} bytes")
        self._ended = True

    def _check_space(self, coming_bytes: int) -> None:
        check_space(self._part.parent, coming_bytes + self._reserve_bytes, self.url)

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)
        self._note = None

    def _write_note(self, note: _Note) -> None:
        with atomic_write(self._note_path) as file:
            file.write(json.dumps(asdict(note)).encode())
        self._note = note


class _Redirects(HTTPRedirectHandler):
    """Follows redirections, but not out of https."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        if urlsplit(newurl).scheme not in ("https", req.type):
            fp.close()
            raise EncoderError(f"cannot download {req.full_url}: it leads to {newurl!r}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _length(response: HTTPResponse) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and not response.chunked else None


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(BLOCK_BYTES)  # what has come, so that a cut loses nothing
    except (OSError, HTTPException, ValueError) as error:
        raise _StoppedError(f"the connection dropped ({error or type(error).__name__})") from error


def _unreachable(url: str, error: Exception) -> _StoppedError:
    reason = error.reason if isinstance(error, URLError) else error
    host = urlsplit(url).hostname
    if isinstance(reason, socket.gaierror):
        return _StoppedError(f"the name {host} is not known here; check the connection and the URL", is_final=True)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return _StoppedError(f"the certificate of {host} is not valid ({reason.verify_message})", is_final=True)
    if isinstance(reason, ConnectionRefusedError):
        return _StoppedError(f"{host} refuses the connection", is_final=True)
    return _StoppedError(f"no answer from {host} ({reason or type(reason).__name__})")
