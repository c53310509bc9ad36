"""Checks of every request: access, bounds of bodies and times, headers of safety, and faults told in one line."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any

from starlette.requests import ClientDisconnect

from bindsearch.server import limits
from bindsearch.server.access import Access
from bindsearch.server.limits import Refusal

logger = logging.getLogger("bindsearch.server")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

UPLOADS = "/api/uploads"
CLOSE: Mapping[str, str] = MappingProxyType({"Connection": "close"})
UNEXPECTED = "the server met an unexpected error: its log has the reason"
SAFETY: Mapping[bytes, bytes] = MappingProxyType(
    {
        b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: "
        b"data:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
        b"x-content-type-options": b"nosniff",
        b"x-frame-options": b"DENY",
        b"referrer-policy": b"no-referrer",
        b"cross-origin-resource-policy": b"same-origin",
        b"cross-origin-opener-policy": b"same-origin",
        b"permissions-policy": b"microphone=(self), camera=(), geolocation=()",
        b"cache-control": b"no-store",
    }
)
"""Headers of every answer, unless it has its own."""


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: App, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        sender = _Sender(send)
        try:
            headers = _headers_of(scope)
            query = scope["query_string"].decode("latin-1")
            target = self._access.check(scope["method"], scope["path"], query, headers)
            if target is not None:
                await _send(sender.send, 303, {"Location": target, "Set-Cookie": self._access.cookie()})
                return
            limit = limits.MAX_UPLOAD_BYTES if scope["path"] == UPLOADS else limits.MAX_JSON_BYTES
            length = headers.get("content-length", "0")
            if not (length.isascii() and length.isdecimal()) or len(length) > 18:
                raise Refusal(400, "the Content-Length header is not a number", CLOSE)
            if int(length) > limit:
                raise _too_large(limit)
            await self._app(scope, _bounded(receive, limit), sender.send)
        except Refusal as refusal:
            if not sender.has_started:
                await _send_refusal(sender.send, refusal)
        except (ClientDisconnect, ConnectionError, TimeoutError):
            return  # the client is gone, or does not read; a connection whose answer is not complete is closed
        except Exception as error:
            told = (scope["method"], ascii(scope["path"]), type(error).__name__, ascii(str(error)))
            logger.error("%.10s %.200s: %s: %.500s", *told)
            if not sender.has_started:
                await _send_refusal(sender.send, Refusal(500, UNEXPECTED))


class _Sender:
    """Sends an answer with the headers of SAFETY, and gives up on a client that does not read."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_started = True
            given = message.get("headers", [])
            own = {name.lower() for name, _ in given}
            message["headers"] = [*given, *((name, value) for name, value in SAFETY.items() if name not in own)]
        await asyncio.wait_for(self._send(message), limits.SEND_S)


def _bounded(receive: Receive, limit: int) -> Receive:
    """Return a function that receives a body of at most `limit` bytes in a bounded time."""
    size, is_complete, end = 0, False, time.monotonic() + limits.BODY_S

    async def bounded() -> Message:
        nonlocal size, is_complete
        if is_complete:  # what is awaited now is the end of the connection
            return await receive()
        pause_s = min(limits.BODY_PAUSE_S, end - time.monotonic())
        try:
            message = await asyncio.wait_for(receive(), max(0.0, pause_s))
        except TimeoutError:
            raise Refusal(408, "the body of the request does not arrive: send it faster", CLOSE) from None
        size += len(message.get("body", b""))
        if size > limit:
            raise _too_large(limit)
        is_complete = not message.get("more_body", False)
        return message

    return bounded


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"the body of the request is larger than {limit >> 20} MB: send less", CLOSE)


def _headers_of(scope: Any) -> dict[str, str]:
    """Return the headers by name in lower case. Raises Refusal: there are two Host headers, or too much of headers."""
    names = [name for name, _ in scope["headers"]]
    if sum(len(name) + len(value) for name, value in scope["headers"]) > limits.MAX_HEADER_BYTES:
        raise Refusal(431, f"the headers of the request have more than {limits.MAX_HEADER_BYTES >> 10} KB", CLOSE)
    if names.count(b"host") > 1:
        raise Refusal(400, "the request has two Host headers")
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def _send_refusal(send: Send, refusal: Refusal) -> None:
    """Send a refusal as JSON."""
    content = json.dumps({"error": refusal.message}).encode()
    await _send(send, refusal.status, {"Content-Type": "application/json", **refusal.headers}, content)


async def _send(send: Send, status: int, headers: Mapping[str, str], content: bytes = b"") -> None:
    sized = {"Content-Length": str(len(content)), **headers}
    pairs = [(name.lower().encode(), value.encode()) for name, value in sized.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": content})
