"""Fixtures every test may use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


def pytest_configure() -> None:
    """Let SIGINT interrupt the processes of tests also where a shell started pytest in the background, without it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real evaluation data; tests that need it skip where it is not there."""
    folder = PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the evaluation data is not here")
    return folder


@pytest.fixture
def bindsearch_command(tmp_path: Path) -> Callable[[Sequence[str | Path]], subprocess.CompletedProcess[str]]:
    """Run the installed `bindsearch` in a process of its own, with a store of the test's own as the default."""

    def run(arguments: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("bindsearch")), *map(str, arguments)]
        environment = {**os.environ, "BINDSEARCH_STORE": str(tmp_path / "store"), "COLUMNS": "200"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)

    return run
