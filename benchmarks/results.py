"""Dated result tables, kept beside the benchmarks."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

FOLDER = Path(__file__).with_name("results")


def save_table(name: str, title: str, table: str) -> Path:
    """Write a Markdown table to `results/<day>-<name>.md`, under a title and a line about the machine."""
    import torch

    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{time.strftime('%Y-%m-%d')}-{name}.md"
    path.write_text(f"# {title}, {time.strftime('%Y-%m-%d')}\n\n{machine}.\n\n{table}", encoding="utf-8")
    return path
