"""The examples for Ray Data, Daft and Spark: each fills a store like `index` does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from helpers import media_files
from helpers.stores import connect
from helpers.transfer_store import contents, failures

EXAMPLES = Path(__file__).parents[1] / "examples" / "parallel"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "module"), [("ray", "ray"), ("daft", "daft"), ("spark", "pyspark")])
def test_an_example_fills_a_store_like_index(tmp_path: Path, name: str, module: str) -> None:
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    if name == "spark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    media_files.write_every_modality(tmp_path / "media", copies=2)
    (tmp_path / "media/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    with connect(tmp_path / "indexed", encoder="mini") as store:
        store.index(tmp_path / "media")
    command = [sys.executable, str(EXAMPLES / f"embed_with_{name}.py")]
    command += [str(tmp_path / folder) for folder in ("media", "parts", "store")]
    environment = {**os.environ, "RAY_ADDRESS": "local", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    ours, theirs = contents(tmp_path / "store"), contents(tmp_path / "indexed")
    assert f"{len(ours)} vectors, 1 could not be read" in done.stdout
    assert failures(tmp_path / "store").keys() == failures(tmp_path / "indexed").keys() == {"broken.png"}
    assert ours.keys() == theirs.keys()
    for key, (vector, *facts) in ours.items():
        expected, *others = theirs[key]
        np.testing.assert_allclose(np.frombuffer(vector, np.float16), np.frombuffer(expected, np.float16), atol=1e-3)
        assert facts == others
