"""Fixtures every test may use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import bindsearch.shards.connect
from helpers.command import Run, run_command
from helpers.stores import connect

PROJECT = Path(__file__).parents[1]


def pytest_configure() -> None:
    """Set up this process and those that tests start, before OpenMP is loaded, which reads its settings once."""
    # its threads spin between two tasks, a quarter of the CPU time of all tests; how many there are stays as it is
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # hundreds of processes that compile the package themselves take half a second longer each
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # nor do settings of whoever runs the tests act on commands
    os.environ["BINDSEARCH_CONFIG"] = os.devnull + "/none"
    # SIGINT interrupts processes also where a shell started pytest in the background, without it
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real evaluation data; tests that need it are skipped if it does not exist."""
    folder = PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the evaluation data is not here")
    return folder


@pytest.fixture
def bindsearch_process(tmp_path: Path) -> Run:
    """Run the installed `bindsearch` in a process of its own, with a store of the test's own as the default."""

    def run(arguments: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("bindsearch")), *map(str, arguments)]
        environment = {**os.environ, "BINDSEARCH_STORE": str(tmp_path / "store"), "COLUMNS": "200"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)

    return run


@pytest.fixture
def bindsearch_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `bindsearch` in this process, decoding in threads: what starts and ends a process is not tested by that."""

    def run(arguments: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            patch.setenv("BINDSEARCH_STORE", str(tmp_path / "store"))
            patch.setenv("COLUMNS", "200")
            patch.setattr(bindsearch.shards.connect, "connect", connect)
            return run_command(arguments)

    return run
