"""Resumable download of a file by HTTP; the file is published only when it is complete.

During the download, `<path>.part` holds the bytes and `<path>.part.json` identifies the file on the server. This note
is kept with the finished file, so that downloading it again needs no request.

The hub's files come this way too, as checkpoints of other servers and mirrors have to: `huggingface_hub.http_get`
resumes by the size of a part alone, without If-Range, so that a changed file becomes a mixture of both.
`hub` asks `huggingface_hub` for what a repository states.
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
"""Called with the number of bytes done and the total; None if the server does not send it."""

BLOCK_BYTES = 1 << 20
TRIES = 6
"""Maximum number of consecutive requests without progress."""

TIMEOUT_S = 30.0
LONGEST_DELAY_S = 30.0
SPARE_BYTES = 64 << 20
"""Disk space that is left free for other programs."""

_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


def ignore_progress(_done: int, _total: int | None) -> None:
    """Ignore progress."""


class NotFoundError(EncoderError):
    """Error for a file that does not exist on the server; a mirror may have it."""


class NoAccessError(EncoderError):
    """Error for a file that the server does not give to this user."""


@dataclass(frozen=True, slots=True)
class DownloadedFile:
    """Complete file: its path, its size, and the SHA-256 of all its bytes, hex."""

    path: Path
    size_bytes: int
    sha256: str


def download(
    url: str,
    path: Path,
    *,
    on_progress: OnProgress = ignore_progress,
    reserve_bytes: int = 0,
    token: str | None = None,
    size_bytes: int | None = None,
    tries: int = TRIES,
    delay_s: float = 1.0,
    timeout_s: float = TIMEOUT_S,
) -> DownloadedFile:
    """Download `url` to `path`; an interrupted download is resumed.

    Args:
        url: URL of the file, http or https.
        path: Path of the file.
        on_progress: Called with the number of bytes done and the total.
        reserve_bytes: Disk space that must be free besides the size of the file.
        token: Access token, which is sent to the host of `url` alone; None: none.
        size_bytes: Size of the file if it is known; another one is not downloaded.
        tries: Maximum number of consecutive requests without progress.
        delay_s: Delay before the second request; it is doubled after each failed one, up to LONGEST_DELAY_S.
        timeout_s: Maximum time without data from the server.

    Returns:
        The complete file.

    Raises:
        UsageError: the URL is not an http or https URL.
        NotFoundError: the file does not exist on the server.
        NoAccessError: the server wants a token, or another one.
        EncoderError: the server cannot be reached or refuses, too many requests failed, the file has another size, or
            the disk is full.
    """
    check_url(url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if finished := _read_finished(url, path, on_progress):
            return finished
        transfer = _Transfer(url, path, on_progress, reserve_bytes, timeout_s, token, size_bytes)
        failed = 0
        while not transfer.is_complete():
            before = transfer.furthest
            try:
                transfer.attempt()
            except _StoppedError as stop:
                failed = 1 if transfer.furthest - before >= BLOCK_BYTES else failed + 1
                if failed >= tries or (stop.is_final and not transfer.furthest):
                    raise EncoderError(f"cannot download {url}: {stop}{transfer.resume_hint()}") from stop
                time.sleep(min(delay_s * 2 ** (failed - 1), LONGEST_DELAY_S))
        return transfer.finish()
    except OSError as error:  # errors of the network are handled before
        raise EncoderError(f"cannot write {path}: {error.strerror or error}") from error


def check_url(url: str) -> None:
    """Check that a URL is plain http or https.

    Raises:
        UsageError: it has another scheme, no host, or a password, which would appear in messages and manifests.
    """
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        is_valid = False
    if not is_valid:
        raise UsageError(f"cannot download {url!r}: expected http://HOST/... or https://HOST/..., without a password")


def check_disk_space(folder: Path, need_bytes: int, what: str) -> None:
    """Check that the disk of a folder has space for `need_bytes` of `what`.

    Raises:
        EncoderError: less than `need_bytes` and SPARE_BYTES are free.
    """
    free = shutil.disk_usage(folder).free
    if free < need_bytes + SPARE_BYTES:
        raise EncoderError(
            f"not enough disk space for {what}: it needs {need_bytes / 1e9:.2f} GB in {folder}, "
            f"{free / 1e9:.2f} GB are free; free disk space, or set BINDSEARCH_MODELS to a folder on another disk"
        )


def hash_sha256(path: Path, on_progress: OnProgress = ignore_progress) -> str:
    """Return the SHA-256 of a file, hex; publishers state it, while xxh3, which is faster, is used for own files.

    Args:
        path: File to read.
        on_progress: Called with the number of bytes done and the total.

    Raises:
        OSError: the file cannot be read.
    """
    digest, done, total = sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            on_progress(done, total)
    return digest.hexdigest()


def part_of(path: Path) -> Path:
    """Return the path of the bytes of an unfinished download."""
    return path.with_name(f"{path.name}.part")


def note_of(path: Path) -> Path:
    """Return the path of the note that identifies the downloaded file."""
    return path.with_name(f"{path.name}.part.json")


def _read_finished(url: str, path: Path, on_progress: OnProgress) -> DownloadedFile | None:
    """Return a file that was downloaded from the same URL before; None if it is missing or has changed."""
    note = _Note.read(note_of(path))
    if note is None or note.url != url or not note.sha256 or not path.is_file():
        return None
    size = path.stat().st_size
    if size != note.total_bytes or hash_sha256(path, on_progress) != note.sha256:
        return None
    return DownloadedFile(path, size, note.sha256)


@dataclass(frozen=True, slots=True)
class _Note:
    """Identity of the file that a part belongs to, as the server sends it; `sha256` is that of the complete file."""

    url: str
    etag: str = ""
    last_modified: str = ""
    total_bytes: int | None = None
    sha256: str = ""

    @classmethod
    def read(cls, path: Path) -> _Note | None:
        """Read the note at `path`; None if it is missing or damaged."""
        try:
            note = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        texts = (note.url, note.etag, note.last_modified, note.sha256)
        is_valid = all(isinstance(text, str) for text in texts) and isinstance(note.total_bytes, int | None)
        return note if is_valid else None

    @property
    def validator(self) -> str:
        """Value for If-Range (RFC 9110, 13.1.5): a strong ETag, else the date; "": the download cannot be resumed."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class _StoppedError(Exception):
    """Error for a request that did not complete the file; another one may."""

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        """Set the message; `is_final`: do not retry if no bytes were received yet."""
        super().__init__(message)
        self.is_final = is_final


@dataclass
class _Transfer:
    """State of a running download: options as of `download`, the part on disk, its note, and the progress."""

    url: str
    path: Path
    on_progress: OnProgress
    reserve_bytes: int
    timeout_s: float
    token: str | None
    size_bytes: int | None
    furthest: int = 0
    has_ended: bool = False

    def __post_init__(self) -> None:
        self._part, self._note_path = part_of(self.path), note_of(self.path)
        self._note = _Note.read(self._note_path)

    def attempt(self) -> None:
        """Send one request for the missing bytes; raise _StoppedError if not all of them were received."""
        offset = self._offset()
        headers = {"User-Agent": "bindsearch", "Accept-Encoding": "identity"}
        if offset and self._note is not None:
            headers |= {"Range": f"bytes={offset}-", "If-Range": self._note.validator}
        with self._open(headers, offset) as response:
            if response.status == 206:
                self._check_range(response, offset)
                self._check_disk_space(_length(response) or 0)
            else:
                offset = 0
                self._begin(response)
            self._receive(response, offset)

    def is_complete(self) -> bool:
        """Return whether all bytes were received."""
        if self._note is None or self._note.url != self.url or not self._part.is_file():
            return False
        return self.has_ended or (self._note.total_bytes is not None and self._offset() == self._note.total_bytes)

    def resume_hint(self) -> str:
        """Return how to resume the download, for the end of a message."""
        offset = self._offset()
        return f"; {offset:,} bytes are saved, run the same command to resume" if offset else ""

    def finish(self) -> DownloadedFile:
        """Publish the complete file under its name."""
        with self._part.open("rb") as file:
            os.fsync(file.fileno())
        size, digest = self._part.stat().st_size, hash_sha256(self._part)
        self._write_note(replace(self._note or _Note(self.url), total_bytes=size, sha256=digest))
        self._part.replace(self.path)
        sync_folder(self.path.parent)
        return DownloadedFile(self.path, size, digest)

    def _offset(self) -> int:
        """Return the number of bytes that need not be requested again; 0 if it is unknown which file they belong to."""
        note = self._note
        if note is None or note.url != self.url or not note.validator or not self._part.is_file():
            return 0
        size = self._part.stat().st_size
        return size if note.total_bytes is None or size <= note.total_bytes else 0

    def _open(self, headers: dict[str, str], offset: int) -> HTTPResponse:
        """Send a request; raise the error for a failed one."""
        request = Request(self.url, headers=headers)
        if self.token is not None:
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        try:
            response = build_opener(_Redirects).open(request, timeout=self.timeout_s)
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
        """Return the exception for an HTTP error."""
        status = " ".join(f"HTTP {error.code} {error.reason}".split())  # some reasons of urllib have several lines
        if error.code == 416 and offset:
            self._discard()
            return _StoppedError("the file on the server has changed")
        if error.code in _PASSING_STATUS:
            return _StoppedError(f"the server answers {status}")
        if error.code in (404, 410):
            return NotFoundError(
                f"cannot download {self.url}: the file does not exist ({status}); "
                "use a mirror (--url) or a local file (--from)"
            )
        kind = NoAccessError if error.code in (401, 403) else EncoderError
        return kind(f"cannot download {self.url}: the server answers {status}")

    def _check_range(self, response: HTTPResponse, offset: int) -> None:
        """Raise _StoppedError if a 206 response does not continue the file that was started."""
        unit, _, extent = response.headers.get("Content-Range", "").partition(" ")
        span, _, total = extent.partition("/")
        same_etag = self._note is None or response.headers.get("ETag", self._note.etag) == self._note.etag
        known = str(self._note.total_bytes) if self._note and self._note.total_bytes is not None else total
        if unit != "bytes" or not span.startswith(f"{offset}-") or total != known or not same_etag:
            self._discard()
            raise _StoppedError("the file on the server has changed")

    def _begin(self, response: HTTPResponse) -> None:
        """Start from the first byte, with a new note."""
        # Old bytes are removed before the note is written, so that the note never refers to bytes of another file.
        self._discard()
        length = _length(response)
        if length is None and not response.chunked:
            raise EncoderError(
                f"cannot download {self.url}: the server does not send the length of the file, so a truncated download "
                "could not be detected; use a mirror (--url) or a local file (--from)"
            )
        self._check_size(length)
        self._check_disk_space(length or 0)
        etag, date = (response.headers.get(header, "") for header in ("ETag", "Last-Modified"))
        self._write_note(_Note(self.url, etag, date, length))

    def _receive(self, response: HTTPResponse, offset: int) -> None:
        """Write the body of a response to the part."""
        total = self._note.total_bytes if self._note else None
        self.on_progress(offset, total)
        done = offset
        # Unbuffered, so that a killed process has saved all bytes received.
        with self._part.open("r+b" if offset else "wb", buffering=0) as file:
            file.seek(offset)
            while block := _read(response):
                file.write(block)
                done += len(block)
                if self.size_bytes is not None and done > self.size_bytes:
                    self._check_size(done)  # of a body whose length was not sent
                self.furthest = max(self.furthest, done)
                self.on_progress(done, total)
        if total is not None and done != total:
            raise _StoppedError(f"the connection ended after {done:,} of {total:,} bytes")
        self.has_ended = True

    def _check_size(self, found: int | None) -> None:
        """Raise EncoderError if the file has another size than the stated one."""
        if found is not None and self.size_bytes not in (None, found):
            self._discard()
            raise EncoderError(
                f"cannot download {self.url}: it has {found:,} bytes, but {self.size_bytes:,} are stated: try again"
            )

    def _check_disk_space(self, coming_bytes: int) -> None:
        """Check that the disk has space for the rest of the file and for what is reserved."""
        check_disk_space(self._part.parent, coming_bytes + self.reserve_bytes, self.url)

    def _discard(self) -> None:
        """Delete the part and its note."""
        self._part.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)
        self._note = None

    def _write_note(self, note: _Note) -> None:
        """Write the note."""
        with atomic_write(self._note_path) as file:
            file.write(json.dumps(asdict(note)).encode())
        self._note = note


class _Redirects(HTTPRedirectHandler):
    """Handler of redirections; those from https to http are refused, and a token goes to no other host."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        """Return the request for a redirection; raise EncoderError if it is not encrypted."""
        if urlsplit(newurl).scheme not in ("https", req.type):
            fp.close()
            raise EncoderError(f"cannot download {req.full_url}: it redirects to {newurl!r}, which is not encrypted")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        sent = req.unredirected_hdrs.get("Authorization")
        if request is not None and sent and urlsplit(newurl)[:2] == urlsplit(req.full_url)[:2]:
            request.add_unredirected_header("Authorization", sent)
        return request


def _length(response: HTTPResponse) -> int | None:
    """Return the length of a body; None if it is unknown."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and not response.chunked else None


def _read(response: HTTPResponse) -> bytes:
    """Read the next bytes of a body; raise _StoppedError if the connection fails."""
    try:
        return response.read1(BLOCK_BYTES)  # returns what has arrived, so that an interruption loses nothing
    except (OSError, HTTPException, ValueError) as error:
        raise _StoppedError(f"the connection dropped ({error or type(error).__name__})") from error


def _unreachable(url: str, error: Exception) -> _StoppedError:
    """Return the error for a server that cannot be reached."""
    reason = error.reason if isinstance(error, URLError) else error
    host = urlsplit(url).hostname
    if isinstance(reason, socket.gaierror):
        return _StoppedError(
            f"the host name {host} cannot be resolved; check the connection and the URL", is_final=True
        )
    if isinstance(reason, ssl.SSLCertVerificationError):
        return _StoppedError(f"the certificate of {host} is not valid ({reason.verify_message})", is_final=True)
    if isinstance(reason, ConnectionRefusedError):
        return _StoppedError(f"{host} refuses the connection", is_final=True)
    return _StoppedError(f"no answer from {host} ({reason or type(reason).__name__})")
