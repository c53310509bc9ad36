"""Pulls a model whose converter is a stand-in, in a process of its own; run by tests that kill it or run two.

python pull.py --source SOURCE.json [--kill-at N] [--pause SECONDS] ARGUMENTS OF bindsearch...

--kill-at: SIGKILL itself at the Nth change of a file or folder. --pause: sleep while converting.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from bindsearch.cli.main import main as bindsearch_main
from bindsearch.encoders import model_catalog
from bindsearch.encoders.model_store.source import ModelSource

CHANGES = (
    (os, "fsync"),
    (os, "replace"),
    (os, "rename"),
    (os, "link"),
    (os, "mkdir"),
    (os, "unlink"),
    (os, "rmdir"),
    (shutil, "rmtree"),
)


def install_converter(pause_s: float = 0.0) -> None:
    """Install the family "stub": its towers are the halves of the checkpoint; one that begins with "bad" fails."""

    def convert(
        source: Path, folder: Path, architecture: Mapping[str, Any], dtype: str, on_progress: Callable[[int, int], None]
    ) -> Mapping[str, float]:
        from bindsearch.atomic import atomic_write
        from bindsearch.errors import EncoderError

        content = source.read_bytes()
        if content.startswith(b"bad"):
            raise EncoderError(f"checkpoint {source} lacks the tensor cls_token")
        half = len(content) // 2
        for tower, part in (("text", content[:half]), ("vision", content[half:])):
            with atomic_write(folder / f"{tower}.safetensors") as file:
                file.write(f"{dtype} {architecture['depth']} ".encode() + part)
            time.sleep(pause_s)
            on_progress(len(part), len(content))
        return {"text": 100.0, "image": 1.0}

    package, module = ModuleType("bindsearch.encoders.stub"), ModuleType("bindsearch.encoders.stub.checkpoint")
    module.convert = convert  # type: ignore[attr-defined]
    sys.modules |= {package.__name__: package, module.__name__: module}


def make_source(name: str, *urls: str, **changes: Any) -> ModelSource:
    """Return a source of the family "stub"."""
    facts: dict[str, Any] = {
        "family": "stub",
        "license": "Stub 1.0",
        "license_text": "You may read it on Tuesdays.",
        "needs_consent": False,
        "architecture": {"depth": 2},
        "expected_bytes": 1000,
    }
    return ModelSource(name=name, urls=urls, **(facts | changes))


def kill_at(n: int) -> None:
    """Kill this process at its nth change of a file or folder; 0: never."""
    done = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return change

    for module, name in CHANGES:
        setattr(module, name, counted(getattr(module, name)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path)
    parser.add_argument("--kill-at", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.0)
    ours, arguments = parser.parse_known_args()
    install_converter(ours.pause)
    facts = json.loads(ours.source.read_text())
    source = make_source(facts.pop("name"), *facts.pop("urls"), **facts)
    found = model_catalog.find_model_source
    model_catalog.find_model_source = lambda name: source if name == source.name else found(name)
    kill_at(ours.kill_at)
    bindsearch_main(arguments)


if __name__ == "__main__":
    main()
