"""Pulls a repository of the hub whose family is a stand-in, in a process of its own, which may kill itself.

python pull_snapshot.py [--kill-at N] ARGUMENTS OF bindsearch...
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from bindsearch.cli.main import main as bindsearch_main


class StubFamily(ModuleType):
    """Family whose models are any files; `refusal` is what it has against them, before and after they are there."""

    def __init__(self) -> None:
        super().__init__("bindsearch.encoders.st.snapshot")
        self.refusal = self.late_refusal = ""
        self.seen: list[str] = []

    def check_libraries(self) -> None:
        pass

    def check_files(self, name: str, files: Mapping[str, Path]) -> None:
        from bindsearch.errors import EncoderError

        self.seen = sorted(files)
        if self.refusal:
            raise EncoderError(self.refusal)

    def describe(self, name: str, folder: Path, dtype: str) -> tuple[Mapping[str, Any], Mapping[str, float]]:
        from bindsearch.errors import EncoderError

        if self.late_refusal:
            raise EncoderError(self.late_refusal)
        return {"dim": 8, "files": sum(path.is_file() for path in folder.rglob("*"))}, {"text": 1.0}


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from helpers.children.pull import kill_at

    parser = argparse.ArgumentParser()
    parser.add_argument("--kill-at", type=int, default=0)
    ours, arguments = parser.parse_known_args()
    family = StubFamily()
    sys.modules[family.__name__] = family
    kill_at(ours.kill_at)
    bindsearch_main(arguments)


if __name__ == "__main__":
    main()
