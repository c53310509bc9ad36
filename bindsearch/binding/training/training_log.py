"""Log of a run: a row of CSV for each step, and optionally the same for TensorBoard."""

from __future__ import annotations

import csv
import os
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from bindsearch.atomic import atomic_write
from bindsearch.errors import InstallationError, UsageError

COLUMNS = (
    "step",
    "epoch",
    "loss",
    "learning_rate",
    "scale",
    "gradient_norm",
    "media_per_s",
    "recall_at_1",
    "recall_at_10",
    "zero_shot",
    "score",
)
"""Columns: those from `recall_at_1` on are of a validation, and empty for other steps."""


class TrainingLog:
    """The log file, and a writer of TensorBoard's events if there is a folder for them."""

    def __init__(self, file: Path, tensorboard: Path | None, done_steps: int) -> None:
        """Open the log; rows of steps that a resumed run repeats are removed.

        Args:
            file: CSV file.
            tensorboard: Folder of TensorBoard's events; None: none are written.
            done_steps: Number of steps of the checkpoint.

        Raises:
            InstallationError: TensorBoard is not installed.
            UsageError: the file cannot be written.
        """
        self._events = None if tensorboard is None else _event_writer(tensorboard, done_steps)
        try:
            _keep_rows(file, done_steps)
            self._file: IO[str] = file.open("a", newline="", encoding="utf-8")
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"{file} cannot be written ({reason}): choose another folder with --work") from None
        except csv.Error as error:
            raise UsageError(f"{file} is damaged ({error}): use --restart to begin again") from None
        self._writer = csv.DictWriter(self._file, COLUMNS)

    def __enter__(self) -> Self:
        """Return the log."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close both files."""
        self._file.close()
        if self._events is not None:
            self._events.close()

    def write(self, step: int, **values: float) -> None:
        """Write the values of a step by the names of COLUMNS."""
        self._writer.writerow({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def flush(self) -> None:
        """Make the rows durable, before a checkpoint that is later than they are."""
        self._file.flush()
        os.fsync(self._file.fileno())


def _keep_rows(file: Path, done_steps: int) -> None:
    """Leave only the header and the rows of steps that are done; a row that was cut is removed."""
    rows = []
    if file.is_file() and done_steps:
        with file.open(newline="", encoding="utf-8", errors="replace") as lines:
            read = [row for row in csv.DictReader(lines) if (row.get("step") or "").isdecimal() and None not in row]
        rows = [{name: row.get(name) or "" for name in COLUMNS} for row in read if int(row["step"]) <= done_steps]
    text = StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(file) as out:
        out.write(text.getvalue().encode())


def _event_writer(folder: Path, done_steps: int) -> Any:
    """Return a writer of TensorBoard's events."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InstallationError(
            'TensorBoard is not installed: run pip install "bindsearch[tensorboard]", or omit --tensorboard'
        ) from None
    return SummaryWriter(str(folder), purge_step=done_steps + 1)
