"""A `bindsearch serve` process, and requests to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ADDRESS = re.compile(r"http://(.+):(\d+)/(?:\?token=(.+))?$")


@dataclass(frozen=True)
class Reply:
    """An answer of HTTP: status, headers by name in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.data["error"])


@dataclass(frozen=True)
class ServerProcess:
    """A running server."""

    process: subprocess.Popen[str]
    port: int
    token: str | None
    runtime: Path
    environment: Mapping[str, str] = field(repr=False)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request; a Host header that is given is sent as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, data: object, headers: Mapping[str, str] | None = None) -> Reply:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        return self.request("POST", path, body, {"Content-Type": "application/json", **(headers or {})})

    def search(self, **query: object) -> Reply:
        return self.post("/api/search", query)

    def upload(self, content: bytes | Path, name: str) -> Reply:
        from urllib.parse import quote

        body = content.read_bytes() if isinstance(content, Path) else content
        return self.request("POST", f"/api/uploads?name={quote(name)}", body)


@contextlib.contextmanager
def serving(
    store: Path, options: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    """Run a server of a store on a free port, with a folder of sockets of its own."""
    with tempfile.TemporaryDirectory(prefix="bs-", dir="/tmp") as runtime:
        variables = {**os.environ, "XDG_RUNTIME_DIR": runtime, **(environment or {})}
        program = str(Path(sys.executable).with_name("bindsearch"))
        command = [program, "serve", "--store", str(store), "--port", "0", *options]
        process = subprocess.Popen(
            command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            found = ADDRESS.search(line)
            if found is None:
                raise AssertionError(f"the server did not start: {line} {process.communicate(timeout=20)}")
            yield ServerProcess(process, int(found[2]), found[3], Path(runtime), variables)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=20)
            process.kill()


def stop(server: ServerProcess, by: signal.Signals = signal.SIGINT) -> tuple[int, str]:
    """Stop a server; its exit code, and what it wrote on stderr."""
    server.process.send_signal(by)
    _, errors = server.process.communicate(timeout=20)
    return server.process.returncode, errors
