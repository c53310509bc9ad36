"""Access to a server: the token, the Host header (DNS rebinding), requests that other pages make a browser send."""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from bindsearch.errors import UsageError
from bindsearch.server.limits import Refusal
from bindsearch.small_files import read_small_file

TOKEN_BYTES = 32
LEAST_TOKEN_CHARACTERS = 16
MAX_TOKEN_BYTES = 1024
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
HTTP_PORT = 80


@dataclass(frozen=True)
class Access:
    """Conditions of a request: the address that the server is bound to, and what a client must know, if anything."""

    host: str
    port: int
    token: str | None

    def check(self, method: str, path: str, query: str, headers: Mapping[str, str]) -> str | None:
        """Check a request, given its query without "?" and its headers by their names in lower case.

        Returns:
            Where to go on, with the token in a cookie; None: go on with this request.

        Raises:
            Refusal: it is not allowed.
        """
        self._check_host(headers.get("host", ""))
        self._check_origin(method, path, headers)
        if self.token is None or self._is_known(headers):
            return None
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=100) if query.count("&") < 100 else []
        given = next((value for name, value in pairs if name == "token"), None)
        if given is None or not self._is_token(given):
            problem = "needs the token" if given is None else "has another token"
            raise Refusal(401, f"the request {problem}: open the address that `bindsearch serve` printed")
        if method not in ("GET", "HEAD") or path != "/":
            return None
        rest = urlencode([(name, value) for name, value in pairs if name != "token"])
        return f"/?{rest}" if rest else "/"

    def cookie(self) -> str:
        """Return the value of a Set-Cookie header that holds the token until the browser is closed."""
        return f"{self._cookie_name}={self.token}; Path=/; HttpOnly; SameSite=Strict"

    @property
    def url(self) -> str:
        """Address of the page, with the token if there is one."""
        host = "127.0.0.1" if self.host == "0.0.0.0" else "::1" if self.host == "::" else self.host
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    @property
    def _cookie_name(self) -> str:
        return f"bindsearch_token_{self.port}"  # cookies are shared by all ports of a host

    def _is_known(self, headers: Mapping[str, str]) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(given.strip()):
            return True
        cookies = (cookie.strip().partition("=") for cookie in headers.get("cookie", "").split(";"))
        return any(name == self._cookie_name and self._is_token(value) for name, _, value in cookies)

    def _is_token(self, given: str) -> bool:
        assert self.token is not None
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self.token.encode())

    def _check_host(self, given: str) -> None:
        """Check that the Host header means this server, not a name that was pointed at its address, else refuse."""
        name, colon, port = given.lower().rpartition(":")
        if not colon or given.endswith("]"):
            name, port = given.lower(), ""
        is_port = port == str(self.port) or (not port and self.port == HTTP_PORT)
        own = f"[{self.host}]" if ":" in self.host else self.host
        is_own = name in LOOPBACK_NAMES or name == own.lower()
        if not is_own and self.host in ("0.0.0.0", "::"):
            # bound to all addresses: no name can be pointed at a literal address, and the token is asked for besides
            is_own = _address(name.strip("[]")) is not None or name == socket.gethostname().lower()
        if not is_port or not is_own:
            raise Refusal(421, "the Host header names another server: use the address that `bindsearch serve` printed")

    def _check_origin(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Check that the server's own page, or no page at all, makes the request, else refuse.

        Following a link to the page from elsewhere is allowed: it tells the other page nothing.
        """
        is_navigation = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
        if is_navigation and headers.get("sec-fetch-dest") == "document" and path == "/":
            return
        own = f"http://{headers.get('host', '')}"
        is_same_site = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        if headers.get("origin", own) != own or not is_same_site:
            raise Refusal(403, "the request is from another page: only the server's own page may ask")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine reach an address."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def choose_token(host: str, file: Path | None) -> str | None:
    """Return the token of a server: that of a file, which is made if it is missing; else a new one.

    Args:
        host: Address that the server is bound to; one of this machine alone needs no token.
        file: File of the token.

    Raises:
        UsageError: the file cannot be read or written, or holds no token.
    """
    if file is None:
        return None if is_loopback(host) else secrets.token_urlsafe(TOKEN_BYTES)
    try:
        with suppress(FileExistsError):
            target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(target, "w", encoding="ascii") as made:  # noqa: PTH123  (a descriptor)
                made.write(f"{secrets.token_urlsafe(TOKEN_BYTES)}\n")
        token = read_small_file(file, MAX_TOKEN_BYTES).decode("ascii").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--token-file {file} cannot be used ({reason}): name a text file") from None
    is_plain = all(letter.isalnum() or letter in "-_.~" for letter in token)
    if len(token) < LEAST_TOKEN_CHARACTERS or not is_plain:
        raise UsageError(
            f"--token-file {file} holds no token of at least {LEAST_TOKEN_CHARACTERS} letters, digits, - or _: "
            "remove it, and a new one is made"
        )
    return token
