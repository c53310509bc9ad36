"""The command line, run in this process."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess

from bindsearch.cli.main import main

Run = Callable[[Sequence[str | Path]], CompletedProcess[str]]
"""Run `bindsearch` with these arguments."""


def run_command(arguments: Sequence[str | Path]) -> CompletedProcess[str]:
    """Run `bindsearch` with these arguments; what it printed, and its exit code."""
    given = [str(argument) for argument in arguments]
    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with redirect_stdout(output), redirect_stderr(errors):
            main(given)
    except SystemExit as ended:
        code = ended.code
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)
    assert isinstance(code, int)
    texts = []
    for stream in (output, errors):
        stream.flush()
        stream.seek(0)
        texts.append(stream.read())
    return CompletedProcess(given, code, *texts)
