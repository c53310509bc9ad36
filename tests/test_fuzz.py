"""Made-up input for readers of what people write and what files hold: read, or refused in one line, in bounded time.

Each target runs for two seconds in `make test`; BINDSEARCH_FUZZ_SECONDS=1800 runs them longer, and
BINDSEARCH_FUZZ_SEED changes the inputs.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from helpers.children import fuzz
from helpers.forked import run_forked

SECONDS = float(os.environ.get("BINDSEARCH_FUZZ_SECONDS", "2"))
SEED = os.environ.get("BINDSEARCH_FUZZ_SEED", "0")


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_made_up_input_is_read_or_refused_in_one_line(target: str, tmp_path: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = run_forked([fuzz.__file__, target, str(SECONDS), SEED, tmp_path], SECONDS + 300, variables=variables)
    assert done.returncode == 0, f"ended with {done.returncode} at {number_in(tmp_path)}: {done.stderr[-2000:]}"
    told = json.loads(done.stdout)
    print(told)  # noqa: T201  (shown by -rP)
    assert told["problems"] == []
    assert told["inputs"] >= fuzz.MIN_INPUTS


def number_in(folder: Path) -> str:
    path = folder / "number"
    return path.read_text() if path.exists() else "no input"
