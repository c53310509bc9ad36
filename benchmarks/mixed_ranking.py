"""Composition of a list over several modalities, ranked by calibrated scores and by raw cosines.

    python benchmarks/mixed_ranking.py --data ../shared/data     # saves a table to benchmarks/results

Real files in a temporary store, embedded by `mini`; the share of each modality in the top 30 of text, sound and image
queries, compared with its share of the store.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from results import save_table

import bindsearch as bs
from bindsearch.evaluation.datasets.registry import read_dataset
from bindsearch.media import Motion
from bindsearch.search.query import Ranking, Searchable
from bindsearch.store import Store
from bindsearch.types import Modality

TOP = 30
FILES = {
    "images_flickr8k": ("images/*.jpg", 150),
    "audio_esc10": ("*/*", 120),
    "audio_animals": ("*/*", 60),
    "thermal_roadscene": ("thermal/*", 100),
    "video_clips": ("clips/*", 14),
}
"""Files of each folder, and how many, evenly spaced."""
CAPTIONS, MOTIONS = 200, 100
TEXT_QUERIES = ("a dog barking", "children playing", "a road with cars", "a fire", "birds in a tree", "people", "rain")


@dataclass(frozen=True)
class LabelledQuery:
    """A query, and its kind as named in the table."""

    kind: str
    query: Searchable


def main() -> None:
    """Index, search, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of evaluation data")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        media, queries = gather(arguments.data, Path(folder) / "media")
        store = bs.connect(Path(folder) / "store")
        report = store.index(media, rules=["thermal=**/thermal_*/**"])
        print(f"{report.added} files indexed, {len(report.failures)} failed")
        table = ranking_table(store, queries)
    print(table)
    print(save_table("mixed-ranking", "Modalities in the top 30, mini encoder", table))


def gather(data: Path, media: Path) -> tuple[Path, list[LabelledQuery]]:
    """Copy some files of each modality below `media`; return others as queries."""
    queries = [LabelledQuery("text", bs.text(words)) for words in TEXT_QUERIES]
    for name, (pattern, count) in FILES.items():
        files = [path for path in sorted((data / name).glob(pattern)) if path.is_file()]
        chosen = evenly(files, count)
        for path in chosen:
            target = media / name / path.relative_to(data / name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        unused = [path for path in files if path not in chosen]
        if name.startswith("images"):
            queries += [LabelledQuery("image", bs.image(path)) for path in evenly(unused, 7)]
        elif name.startswith("audio"):
            queries += [LabelledQuery("audio", bs.audio(path)) for path in evenly(unused, 4)]
    texts = media / "texts"
    texts.mkdir()
    for number, caption in enumerate(evenly(sorted(captions(data)), CAPTIONS)):
        (texts / f"{number}.txt").write_text(caption, encoding="utf-8")
    motions = media / "motions"
    motions.mkdir()
    for number, recording in enumerate(evenly(list(read_dataset("uci-har-5s", data / "imu_uci_har").items), MOTIONS)):
        motion = recording.media
        assert isinstance(motion, Motion)
        times = np.arange(len(motion.samples)) / motion.sample_rate_hz
        table = np.column_stack([times, motion.samples])
        names = "time_s,acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z"
        np.savetxt(motions / f"{number}.csv", table, delimiter=",", header=names, comments="")
    return media, queries


def captions(data: Path) -> Iterator[str]:
    """Yield captions of the images, without the names of the files."""
    for line in (data / "images_flickr8k" / "captions.csv").read_text(encoding="utf-8").splitlines()[1:]:
        yield line.split(",", 1)[1].strip('" ')


def evenly(things: list[Any], count: int) -> list[Any]:
    """Return `count` of the things, evenly spaced."""
    return things[:: max(len(things) // count, 1)][:count]


def ranking_table(store: Store, labelled: list[LabelledQuery]) -> str:
    """Return the mean number of each modality in the top 30 by kind of query, for both rankings, as Markdown."""
    holds = store.status().segments
    present = [modality for modality in Modality if holds.get(modality)]
    total = sum(holds[modality] for modality in present)
    rows = [
        f"| query | ranking | {' | '.join(present)} |",
        f"| --- | --- |{' --- |' * len(present)}",
        f"| | if drawn at random | {' | '.join(f'{TOP * holds[m] / total:.1f}' for m in present)} |",
    ]
    for kind in dict.fromkeys(query.kind for query in labelled):
        queries = [query.query for query in labelled if query.kind == kind]
        for rank in (Ranking.PROBABILITY, Ranking.Z, Ranking.COSINE):
            counts = Counter(hit.modality for query in queries for hit in store.search(query, k=TOP, ranking=rank))
            means = " | ".join(f"{counts[modality] / len(queries):.1f}" for modality in present)
            rows.append(f"| {kind} ({len(queries)}) | {rank} | {means} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
