"""Questions to a running server: a command asks it first, and searches itself in any doubt."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from bindsearch import errors
from bindsearch.arguments import is_existing_file, looks_like_path
from bindsearch.search.query import LIKE, Query, Term
from bindsearch.search.query_data import query_data
from bindsearch.server.command_socket import protocol
from bindsearch.types import Modality

CONNECT_S = 1.0
ANSWER_S = 20.0
"""Time in which a server must have answered; the command then searches itself."""
LOCATE_S = 120.0
"""Time in which it must have answered and located."""


def ask_server(store: Path, query: Query, imu_rate_hz: float | None, *, locate: bool = False) -> dict[str, Any] | None:
    """Return the answer of a server that has a store open; None if there is none, or in any doubt.

    Args:
        store: Folder of the store.
        query: The query; paths are those of this process.
        imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
        locate: Whether the hits have the places that answer the query.

    Raises:
        BindSearchError: the query is wrong, as the search in this process would say.
    """
    if not hasattr(socket, "AF_UNIX"):
        return None
    try:
        identity = protocol.identity_of(store)
        folder = protocol.socket_folder()
        path = protocol.socket_path(folder, identity)
        if not path.exists() or not protocol.is_private(folder) or len(os.fsencode(path)) > protocol.MAX_PATH_BYTES:
            return None
        absolute = tuple(map(_absolute_term, query.terms))
        request = {
            "version": protocol.VERSION,
            "store": identity,
            "environment": protocol.environment(),
            "query": query_data(replace(query, terms=absolute)),
            "imu_rate_hz": imu_rate_hz,
            "locate": locate,
        }
        reply = _exchange(path, json.dumps(request).encode() + b"\n", LOCATE_S if locate else ANSWER_S)
    except (OSError, ValueError, RuntimeError):
        return None
    renamed = {new.source: old.source for old, new in zip(query.terms, absolute, strict=True) if new != old}
    if "error" in reply and not renamed and (error := _error_of(reply)) is not None:
        raise error
    answer = reply.get("answer")
    return _with_given_paths(answer, renamed) if isinstance(answer, dict) else None


def _absolute_term(term: Term) -> Term:
    """Return a term that means the same in another working folder."""
    if term.kind == Modality.TEXT or (term.kind == LIKE and term.source.isdecimal()):
        return term
    if term.kind is None and not looks_like_path(term.source) and not is_existing_file(Path(term.source)):
        return replace(term, kind=Modality.TEXT.value)
    path = Path(term.source).expanduser() if term.kind == LIKE else Path(term.source)
    return replace(term, source=str(Path.cwd() / path))


def _exchange(path: Path, request: bytes, answer_s: float = ANSWER_S) -> dict[str, Any]:
    """Send a request and return the reply; an empty one if the server is none to be trusted.

    Raises:
        OSError: there is no server, or it does not answer in time.
        ValueError: the reply is no JSON.
    """
    end = time.monotonic() + answer_s
    if len(request) > protocol.MAX_REQUEST_BYTES:
        return {}
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(CONNECT_S)
        connection.connect(str(path))
        if not protocol.is_own_peer(connection):
            return {}
        connection.sendall(request)
        received = bytearray()
        while not received.endswith(b"\n"):
            connection.settimeout(max(0.001, end - time.monotonic()))
            part = connection.recv(1 << 18)
            if not part or len(received) > protocol.MAX_ANSWER_BYTES:
                return {}
            received += part
    reply = json.loads(received)
    return reply if isinstance(reply, dict) else {}


def _error_of(reply: dict[str, Any]) -> errors.BindSearchError | None:
    """Return the error that a server met; None for one that has more than a message."""
    kind = getattr(errors, str(reply.get("kind")), None)
    if not isinstance(kind, type) or not issubclass(kind, errors.BindSearchError):
        return None
    return kind(str(reply["error"])) if kind.__init__ is errors.BindSearchError.__init__ else None


def _with_given_paths(answer: dict[str, Any], renamed: dict[str, str]) -> dict[str, Any] | None:
    """Return an answer with the paths that its query had; None if that is not certain."""
    answered = answer["query"]["terms"]
    for term in answered:
        term["source"] = renamed.get(term["source"], term["source"])
    answer["notices"] = [_with_given_start(notice, renamed) for notice in answer["notices"]]
    rest = json.dumps({key: value for key, value in answer.items() if key != "hits"})
    changed = [path for path, given in renamed.items() if path != given]
    return None if any(json.dumps(path)[1:-1] in rest for path in changed) else answer


def _with_given_start(notice: str, renamed: dict[str, str]) -> str:
    """Return a notice about a file with the path that was given."""
    for path, given in renamed.items():
        if notice.startswith((f"{path}:", f"{path} ")):
            return f"{given}{notice.removeprefix(path)}"
    return notice
