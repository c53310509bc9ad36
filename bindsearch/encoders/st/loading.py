"""Loading of a model by sentence-transformers: from local files, without code of the repository."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from logging import ERROR, WARNING, Handler, LogRecord, NullHandler, getLogger
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from bindsearch.environment import check_libraries as import_libraries
from bindsearch.errors import EncoderError, InstallationError

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

OLDEST = "5.4"
"""First version of sentence-transformers whose models declare their modalities."""

_LOADING = Lock()
"""Held while a model is loaded: the libraries change settings of the whole process meanwhile."""

_REPORTS = "transformers.modeling_utils"
"""Logger of transformers that reports weights that are missing in a checkpoint."""


def check_libraries() -> None:
    """Check that sentence-transformers is there.

    Raises:
        InstallationError: it is missing, or too old; the message names the extra.
    """
    from importlib.metadata import PackageNotFoundError, version

    from packaging.version import Version

    remedy = "pip install 'bindsearch[st]'"
    try:
        found = version("sentence-transformers")
    except PackageNotFoundError:
        raise InstallationError("models of st: need the extra [st]", remedy) from None
    if Version(found) < Version(OLDEST):
        raise InstallationError(f"models of st: need sentence-transformers {OLDEST} or later, not {found}", remedy)


def load_library_model(name: str, folder: Path, dtype: torch.dtype, device: torch.device) -> SentenceTransformer:
    """Load a model.

    Raises:
        InstallationError: the library is missing, too old, or cannot be loaded.
        EncoderError: the files are damaged or incomplete.
    """
    check_libraries()
    import_libraries(("torch", "transformers", "sentence_transformers"))
    from sentence_transformers import SentenceTransformer

    reports = _Reports()
    try:
        with _LOADING, _quiet(reports):
            model = SentenceTransformer(
                str(folder),
                device=str(device),
                local_files_only=True,
                trust_remote_code=False,
                backend="torch",
                model_kwargs={"dtype": dtype},
            )
    except MemoryError:
        raise
    except Exception as error:  # of two libraries and their models, each with code of its own
        raise EncoderError(f"{name} cannot be loaded: {one_line(error)}") from error
    if reports.lines:
        raise EncoderError(f"{name} cannot be loaded: its weights are incomplete ({reports.lines[0][:300]})")
    model.eval().requires_grad_(False)
    return model


def one_line(error: BaseException) -> str:
    """Return the message of another library's exception on one line, without advice to run code of a repository."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "trust_remote_code" in text:
        return "it needs code of its repository, which is never run"
    return text if len(text) <= 300 else f"{text[:297]}..."


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; None if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


class _Reports(Handler):
    """Handler that keeps reports about weights that are missing: they would be random numbers."""

    def __init__(self) -> None:
        super().__init__(WARNING)
        self.lines: list[str] = []

    def emit(self, record: LogRecord) -> None:
        """Keep the lines of a report that name missing weights."""
        lines = [line for line in record.getMessage().splitlines() if "MISSING" in line and "|" in line]
        self.lines += [" ".join(line.replace("|", " ").split()) for line in lines]


@contextmanager
def _quiet(reports: Handler) -> Iterator[None]:
    """Show neither progress bars nor log lines of the libraries; give reports of weights to a handler."""
    from transformers.utils import logging

    of_transformers: Any = logging
    loggers = [getLogger(name) for name in ("transformers", "sentence_transformers", _REPORTS)]
    kept = [(logger.propagate, logger.level, list(logger.handlers)) for logger in loggers]
    had_bars = of_transformers.is_progress_bar_enabled()
    of_transformers.disable_progress_bar()
    try:
        for logger in loggers:
            logger.handlers, logger.propagate = [NullHandler()], False
        loggers[-1].handlers = [reports]
        loggers[-1].setLevel(WARNING)
        with redirect_stdout(StringIO()):  # transformers prints about its own docstrings
            yield
    finally:
        for logger, (propagate, level, handlers) in zip(loggers, kept, strict=True):
            logger.propagate, logger.handlers = propagate, handlers
            logger.setLevel(level)
        for logger in loggers[:-1]:  # their later advice is for programmers; errors are exceptions
            logger.setLevel(max(logger.level, ERROR))
        if had_bars:
            of_transformers.enable_progress_bar()
