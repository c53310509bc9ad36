"""Demo behind `make demo`: create a small media folder, index it, run five searches and check their first hits.

    python examples/demo.py [FOLDER]      FOLDER defaults to demo/

The exit code is the number of searches that did not find the expected file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SHOWN_HITS = 3


@dataclass(frozen=True)
class Step:
    """A search with its expected result.

    Attributes:
        title: Heading to print.
        arguments: Arguments of `bindsearch search`.
        expected: Name of the file that must be among the first hits.
        within: Number of first hits that may contain the file.
    """

    title: str
    arguments: tuple[str, ...]
    expected: str
    within: int = 1


STEPS = (
    Step("A text finds a picture", ("a cat",), "photo_01.jpg"),
    Step("A sound finds texts and pictures", ("--audio", "queries/bark.wav", "--to", "text,image"), "note_05.md", 2),
    Step("A sound finds similar sounds", ("--audio", "queries/rain.wav", "--to", "audio"), "sound_02.wav"),
    Step("A motion log finds texts and videos", ("--imu", "queries/walk.csv", "--to", "text,video"), "note_01.txt"),
    Step(
        "A picture plus a sound finds what has both: coffee on a rainy morning",
        ("--query", "0.5*image:queries/cup.jpg + 0.5*audio:queries/rain.wav", "--to", "text,video"),
        "note_10.txt",
        within=3,
    ),
)


def main() -> int:
    """Run the demo and return the number of failed steps as exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("demo"))
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, str(Path(__file__).with_name("make_media.py")), str(folder)], check=True)
    shutil.rmtree(folder / "store", ignore_errors=True)  # of an earlier run, perhaps with other weights
    print("\n$ bindsearch index media")
    subprocess.run([_command(), "index", "media", "--store", "store"], cwd=folder, check=True)
    failed = [step for step in STEPS if not _run(step, folder)]
    for step in failed:
        print(f"FAILED: {step.title}: {step.expected} is not among the first {step.within}")
    print(f"\n{len(STEPS) - len(failed)} of {len(STEPS)} searches found the expected file. Media files: {folder}")
    return len(failed)


def _run(step: Step, folder: Path) -> bool:
    shown = " ".join(f"'{word}'" if " " in word else word for word in step.arguments)
    print(f"\n# {step.title}\n$ bindsearch search {shown}")
    command = [_command(), "search", *step.arguments, "--store", "store", "-k", str(max(SHOWN_HITS, step.within))]
    done = subprocess.run([*command, "--json"], cwd=folder, check=True, capture_output=True, text=True)
    hits = json.loads(done.stdout)["hits"]
    for hit in hits:
        path = Path(hit["path"])
        text = f"  {' '.join(hit['text'].split())[:70]}" if hit["text"] else ""
        print(f"{hit['rank']:3}  {hit['score']:6.2f}  {hit['modality']:8} {path.parent.name}/{path.name}{text}")
    return step.expected in [Path(hit["path"]).name for hit in hits[: step.within]]


def _command() -> str:
    return str(Path(sys.executable).with_name("bindsearch"))


if __name__ == "__main__":
    sys.exit(main())
