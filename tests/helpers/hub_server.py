"""A real HTTP server on 127.0.0.1 that answers as the Hugging Face hub does, as far as a pull asks it."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "1a" * 20


@dataclass
class HubServer:
    """One repository, how it is served, and what was asked.

    `listed`: entries of the list in place of those that the files have. `cuts`: bytes after which the answer for a
    file breaks off, once. `sent`: contents that differ from the listed ones. `token`: the only one that files are
    given for; None: anybody.
    """

    files: dict[str, bytes]
    repository: str = "org/small"
    commit: str = COMMIT
    revisions: tuple[str, ...] = ("main", "v1")
    card: dict[str, Any] | None = field(default_factory=lambda: {"license": "mit"})
    gated: Any = False
    url: str = ""
    token: str | None = None
    listed: list[dict[str, Any]] | None = None
    cuts: dict[str, int] = field(default_factory=dict)
    sent: dict[str, bytes] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    mangle: bytes | None = None
    moved_to: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Path and Range header of each request."""
    tokens: list[str] = field(default_factory=list)
    """Authorization header of each request."""

    def answer(self) -> dict[str, Any]:
        """Return what the hub tells about the repository."""
        siblings = [entry(path, content) for path, content in self.files.items()]
        return {
            "id": self.repository,
            "sha": self.commit,
            "gated": self.gated,
            "cardData": self.card,
            "siblings": siblings if self.listed is None else self.listed,
        }


def entry(path: str, content: bytes) -> dict[str, Any]:
    """Return an entry of the list: weights are kept in LFS, other files in Git."""
    if path.endswith((".safetensors", ".bin")):
        digest = hashlib.sha256(content).hexdigest()
        lfs = {"size": len(content), "sha256": digest, "pointerSize": 134}
        return {"rfilename": path, "size": len(content), "blobId": "0" * 40, "lfs": lfs}
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {"rfilename": path, "size": len(content), "blobId": git}


@contextmanager
def serve_hub(files: dict[str, bytes]) -> Iterator[HubServer]:
    hub = HubServer(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            hub.requests.append((path, self.headers.get("Range", "")))
            hub.tokens.append(self.headers.get("Authorization", ""))
            about = f"api/models/{hub.repository}"
            if path == about or path.startswith(f"{about}/revision/"):
                self._about(path.removeprefix(about).removeprefix("/revision/") or "main")
            elif path.startswith(f"{hub.repository}/resolve/{hub.commit}/"):
                self._file(path.split(f"/{hub.commit}/", 1)[1])
            elif path.startswith("moved/"):
                self._send_file(path.removeprefix("moved/"))
            else:
                self._refuse(404, "RepoNotFound")

        def _about(self, revision: str) -> None:
            if revision not in (*hub.revisions, hub.commit):
                self._refuse(404, "RevisionNotFound")
                return
            body = json.dumps(hub.answer()).encode() if hub.mangle is None else hub.mangle
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _file(self, path: str) -> None:
            if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
                self._refuse(401, "GatedRepo")
            elif hub.moved_to:
                self.send_response(302)
                self.send_header("Location", f"{hub.moved_to}/moved/{path}")
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self._send_file(path)

        def _send_file(self, path: str) -> None:
            content = hub.sent.get(path, hub.files.get(path))
            if content is None or path in hub.missing:
                self._refuse(404, "EntryNotFound")
                return
            asked = self.headers.get("Range", "")
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            self.send_response(206 if start else 200)
            self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:][: hub.cuts.pop(path, None)])

        def _refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def end_headers(self) -> None:
            self.send_header("Connection", "close")  # the client keeps no connection that a cut has ended
            super().end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
