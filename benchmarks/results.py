"""Dated result tables, saved next to the benchmarks."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FOLDER = Path(__file__).with_name("results")


def save_table(name: str, title: str, table: str, packages: Sequence[str] = ("torch",)) -> Path:
    """Write a Markdown table to `results/<day>-<name>.md`.

    Its header describes the machine, with the versions of those `packages` that are installed.
    """
    versions = ", ".join(f"{package} {version}" for package in packages if (version := _version(package)))
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {versions}"
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{time.strftime('%Y-%m-%d')}-{name}.md"
    path.write_text(f"# {title}, {time.strftime('%Y-%m-%d')}\n\n{machine}.\n\n{table}", encoding="utf-8")
    return path


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
