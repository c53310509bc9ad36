"""What commands print: JSON on stdout for programs, plain lines and tables for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from bindsearch.items import Hit

SCHEMA = 1


def print_json(data: dict[str, Any]) -> None:
    """One JSON object on stdout, with the schema's number first."""
    typer.echo(json.dumps({"schema": SCHEMA, **data}, ensure_ascii=False, indent=2))


def stdout_console() -> Console:
    """Where tables go; plain text without colour off a terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def stderr_console() -> Console:
    """Where progress and messages go."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def span_label(hit: Hit) -> str:
    """`0:10-0:20` for a span, else nothing."""
    if hit.start_s is None or hit.end_s is None:
        return ""
    return f"{_clock(hit.start_s)}-{_clock(hit.end_s)}"


def human_bytes(n: int) -> str:
    """1536 as "1.5 KB"."""
    size = float(n)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60.0)
    shown = f"{rest:04.1f}".removesuffix(".0") if rest % 1 else f"{int(rest):02d}"
    return f"{int(minutes)}:{shown}"
