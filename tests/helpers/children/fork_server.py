"""Runs Python scripts in forks of itself, in which the modules it was started with are loaded already.

python fork_server.py DESCRIPTOR MODULE...

DESCRIPTOR: of a socket. Each line that comes in is a JSON object; each is answered by a line:
{"arguments": [SCRIPT, ARGUMENT...], "variables": {}, "folder": PATH, "output": PATH, "errors": PATH}: process ID
{"wait": PROCESS_ID}: exit code, negative after a signal; null while the process runs
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any


def become(request: dict[str, Any]) -> None:
    """Go on as a new interpreter that runs the script."""
    os.environ.clear()
    os.environ.update(request["variables"])
    os.chdir(request["folder"])
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["output"], os.O_WRONLY | os.O_CREAT),
        (2, request["errors"], os.O_WRONLY | os.O_CREAT),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, descriptor)
        os.close(opened)
    script = request["arguments"][0]
    sys.argv = request["arguments"]
    sys.path[:1] = [str(Path(script).parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    main = sys.modules["__main__"] = ModuleType("__main__")
    main.__file__ = script
    exec(compile(Path(script).read_bytes(), script, "exec"), main.__dict__)


def answer(request: dict[str, Any]) -> int | None:
    """Return what to answer; 0 in a new process."""
    if "wait" not in request:
        return os.fork()
    pid, status = os.waitpid(request["wait"], os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    for name in sys.argv[2:]:
        with suppress(ImportError):  # the script that needs it will say so
            importlib.import_module(name)
    gc.freeze()  # so that collecting garbage copies no pages
    stream = connection.makefile("rw")
    for line in stream:
        request = json.loads(line)
        found = answer(request)
        if found == 0 and "wait" not in request:
            stream.close()
            connection.close()
            become(request)
            return
        stream.write(json.dumps(found) + "\n")
        stream.flush()


if __name__ == "__main__":
    main()
