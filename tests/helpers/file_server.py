"""A real HTTP server of one file on 127.0.0.1, with ranges and ETags, that misbehaves as it is told."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What is served, how, and what was asked.

    `cuts`: bytes after which the next responses break off, None for a whole one. `statuses`: of the next responses.
    `hold_at`: bytes after which a response waits for `release`. `etag`: None for the content's own, "" for none.
    """

    content: bytes
    url: str = ""
    etag: str | None = None
    last_modified: str = ""
    ranges: bool = True
    chunked: bool = False
    length: int | None = None
    missing: tuple[str, ...] = ()
    redirect: str = ""
    cuts: list[int | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    hold_at: int | None = None
    release: threading.Event = field(default_factory=threading.Event)
    requests: list[str] = field(default_factory=list)
    """The Range header of each request; empty where there was none."""
    conditions: list[str] = field(default_factory=list)
    """The If-Range header of each request, likewise."""

    @property
    def tag(self) -> str:
        return f'"{hashlib.md5(self.content).hexdigest()}"' if self.etag is None else self.etag


@contextmanager
def serve(content: bytes) -> Iterator[FileServer]:
    served = FileServer(content)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            served.requests.append(self.headers.get("Range", ""))
            served.conditions.append(self.headers.get("If-Range", ""))
            if self.path in served.missing:
                self.send_error(404)
            elif served.redirect and self.path != "/moved.pth":
                self.send_response(302)
                self.send_header("Location", served.redirect)
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif served.statuses and (status := served.statuses.pop(0)) != 200:
                self.send_error(status)
            else:
                self._send_file()

        def _send_file(self) -> None:
            start, size = self._start(), len(served.content)
            if start >= size:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if served.tag:
                self.send_header("ETag", served.tag)
            if served.last_modified:
                self.send_header("Last-Modified", served.last_modified)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            if served.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            elif served.length != -1:
                self.send_header("Content-Length", str((served.length or size) - start))
            self.end_headers()
            self._send_body(served.content[start:])

        def _start(self) -> int:
            wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
            if not wanted or not served.ranges or condition not in (None, served.tag, served.last_modified):
                return 0
            return int(wanted.removeprefix("bytes=").rstrip("-"))

        def _send_body(self, body: bytes) -> None:
            cut = served.cuts.pop(0) if served.cuts else None
            try:
                sent = body if cut is None else body[:cut]
                if served.hold_at is not None:
                    self.wfile.write(sent[: served.hold_at])
                    served.release.wait(60)
                    sent = sent[served.hold_at :]
                if served.chunked:
                    self.wfile.write(
                        f"{len(sent):x}\r\n".encode() + sent + b"\r\n" + (b"0\r\n\r\n" if not cut else b"")
                    )
                else:
                    self.wfile.write(sent)
            except ConnectionError:  # the client was killed
                return

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/checkpoint.pth"
    try:
        yield served
    finally:
        served.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
