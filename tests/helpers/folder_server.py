"""A real HTTP server of several files on 127.0.0.1, with ranges, that refuses or cuts what it is told to."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FolderServer:
    """What is refused, and what was asked.

    `missing` and `refused`: paths that get 404 and 403. `cut_after`: bytes after which the next response for a path
    breaks off.
    """

    url: str
    missing: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    cut_after: dict[str, int] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Path and Range header of each request."""


@contextmanager
def serve_files(contents: Mapping[str, bytes]) -> Iterator[FolderServer]:
    """Serve contents by file name."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            asked = self.headers.get("Range", "")
            served.requests.append((self.path, asked))
            content = contents.get(self.path.removeprefix("/"))
            if content is None or self.path in served.missing:
                self.send_error(404)
            elif self.path in served.refused:
                self.send_error(403)
            else:
                self._send(content, int(asked.removeprefix("bytes=").rstrip("-") or 0))

        def _send(self, content: bytes, start: int) -> None:
            self.send_response(206 if start else 200)
            self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : served.cut_after.pop(self.path, len(content))])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = FolderServer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
