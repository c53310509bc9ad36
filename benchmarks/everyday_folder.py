"""A messy folder as people have them, made of the evaluation data, and queries with known answers.

    python benchmarks/everyday_folder.py --data ../shared/data --to FOLDER     # fills FOLDER/media and FOLDER/queries

Files have neutral names, so that only contents can be found.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

import bindsearch as bs
from bindsearch.encoders.mini.class_prototypes import read_classes
from bindsearch.evaluation.datasets.entries import in_words
from bindsearch.evaluation.datasets.registry import read_dataset
from bindsearch.media import Motion
from bindsearch.search.query import Searchable
from bindsearch.types import Modality

EVERY = 5
"""Every fifth recording of a class is a query, and not in the folder."""

COPIED = 30
"""Number of pictures that lie there a second time: identical, compressed again, and smaller."""

DOCUMENT_BYTES, LARGE_DOCUMENT_BYTES, DOCUMENTS = 50_000, 800_000, 10
SOUND_SETS = ("audio_esc10", "audio_urbansound8k", "audio_animals")
SUBJECT = 18
"""Subject whose motions are queries; the weights of `mini` were not trained on it."""


@dataclass(frozen=True)
class KnownQuery:
    """A query with known answers.

    Attributes:
        kind: Kind, as named in the table.
        query: The query.
        answers: The files that answer it, relative to the folder; none: nothing does.
        to: Modality of the answers.
        half: Half of the data that it belongs to: 0 or 1.
        also: Files of other modalities that answer it, too.
    """

    kind: str
    query: Searchable
    answers: frozenset[str]
    to: Modality
    half: int
    also: frozenset[str] = frozenset()


@dataclass
class EverydayFolder:
    """The folder and its queries.

    Attributes:
        media: The folder.
        documents: Long texts in it, relative to it.
        empty: Files without content: silent sounds, blank pictures.
        queries: Queries with an answer.
        unanswered: Queries without one: class names whose pictures are not there, and nonsense.
        same: Files that are used as queries themselves: an identical file is the answer.
        pictures: Pictures and their copies by the file of the evaluation data that they are made from.
        sounds: Sounds by label.
        motions: Motions by label.
    """

    media: Path
    documents: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    queries: list[KnownQuery] = field(default_factory=list)
    unanswered: list[KnownQuery] = field(default_factory=list)
    same: list[Path] = field(default_factory=list)
    pictures: dict[str, set[str]] = field(default_factory=dict)
    sounds: dict[str, set[str]] = field(default_factory=dict)
    motions: dict[str, set[str]] = field(default_factory=dict)


@contextmanager
def working_folder(about: str | None) -> Iterator[tuple[Path, Path]]:
    """Read the arguments of a benchmark; yield the folder of the evaluation data, and one to work in.

    Args:
        about: Description of the benchmark.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of evaluation data")
    parser.add_argument("--folder", type=Path, help="a folder to work in and to keep; used again if it is there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        base = arguments.folder or Path(temporary)
        shutil.rmtree(base / "files", ignore_errors=True)
        yield arguments.data, base


def make_folder(data: Path, media: Path, aside: Path) -> EverydayFolder:
    """Fill the folder `media` with files of the evaluation data, and put files that are queries into `aside`."""
    folder = EverydayFolder(media)
    aside.mkdir(parents=True, exist_ok=True)
    _add_pictures(data, folder, aside)
    _add_sounds(data, folder, aside)
    _add_motions(data, folder, aside)
    for number, path in enumerate(sorted((data / "thermal_roadscene" / "thermal").iterdir())):
        copy_file(path, media / "thermal" / f"{number:04}{path.suffix}")
    for number, path in enumerate(sorted((data / "depth_street_stereo" / "depth").iterdir())):
        depth = copy_file(path, media / "depth" / f"{number:04}{path.suffix}")
        depth.with_name(f"{depth.name}.json").write_text('{"depth_unit": 0.1}')  # the real scale is unknown
    for number, path in enumerate(sorted((data / "video_clips" / "clips").iterdir())):
        copy_file(path, media / "clips" / f"{number:04}{path.suffix}")
    _add_documents(folder)
    _add_empty_files(folder)
    folder.unanswered += _nonsense(random.Random(0), 250)
    return folder


def _add_pictures(data: Path, folder: EverydayFolder, aside: Path) -> None:
    rows = read_rows(data / "images_imagenet1000" / "labels.csv")
    by_class: dict[str, list[str]] = {}
    for number, row in enumerate(rows):
        name = f"pictures/{number:04}.jpg"
        copy_file(data / "images_imagenet1000" / row["path"], folder.media / name)
        by_class.setdefault(row["label"], []).append(name)
        folder.pictures[f"images_imagenet1000/{row['path']}"] = {name}
    answers = {name: names for names in folder.pictures.values() for name in names}
    copied = [names[0] for names in list(by_class.values())[: 3 * COPIED]]
    for number, name in enumerate(copied):
        copy = f"copies/{number:04}.jpg"
        path = folder.media / copy
        path.parent.mkdir(exist_ok=True)
        if number % 3 == 0:
            shutil.copyfile(folder.media / name, path)
        else:
            with Image.open(folder.media / name) as picture:
                shown = picture.convert("RGB")
                shown = shown if number % 3 == 1 else shown.resize((shown.width // 2, shown.height // 2))
                shown.save(path, quality=60)
        answers[name].add(copy)
    for label, names in by_class.items():
        found = frozenset().union(*(answers[name] for name in names))
        half = int(Path(names[0]).stem) % 2
        folder.queries.append(KnownQuery("class name", bs.text(label), found, Modality.IMAGE, half))
    folder.same += [folder.media / name for name in list(answers)[:100]]
    there = {row["wnid"] for row in rows}
    absent = [one for one in read_classes() if one.wnid not in there]
    for number, one in enumerate(absent):
        query = bs.text(one.curated_name)
        folder.unanswered.append(KnownQuery("absent class", query, frozenset(), Modality.IMAGE, number % 2))
    captions: dict[str, str] = {}
    for row in read_rows(data / "images_flickr8k" / "captions.csv"):
        captions.setdefault(row["path"], row["caption"])
    for number, (source, caption) in enumerate(captions.items()):
        name = f"photos/{number:04}.jpg"
        folder.pictures[f"images_flickr8k/{source}"] = {name}
        copy_file(data / "images_flickr8k" / source, folder.media / name)
        folder.queries.append(KnownQuery("caption", bs.text(caption), frozenset([name]), Modality.IMAGE, number % 2))
        if number // 2 % EVERY == 0:
            small = aside / f"photo{number:04}.jpg"
            with Image.open(folder.media / name) as picture:
                picture.convert("RGB").resize((picture.width * 2 // 3, picture.height * 2 // 3)).save(small, quality=70)
            folder.queries.append(KnownQuery("picture", bs.image(small), frozenset([name]), Modality.IMAGE, number % 2))


def _add_sounds(data: Path, folder: EverydayFolder, aside: Path) -> None:
    names = folder.sounds
    queries: list[tuple[str, Path, int]] = []
    count = 0
    for source in SOUND_SETS:
        for row in read_rows(data / source / "labels.csv"):
            label = row["label"].removesuffix("_bark")
            path = data / source / row["path"]
            count += 1
            if count // 2 % EVERY == 0:
                queries.append((label, copy_file(path, aside / f"sound{count:04}{path.suffix}"), count % 2))
                continue
            name = f"sounds/{count:04}{path.suffix}"
            copy_file(path, folder.media / name)
            names.setdefault(label, set()).add(name)
    pictures = pictures_of_sounds(data, folder)
    for label, path, half in queries:
        if label in names:
            also = frozenset(pictures.get(label, ()))
            folder.queries.append(
                KnownQuery("sound", bs.audio(path), frozenset(names[label]), Modality.AUDIO, half, also)
            )
    folder.same += [folder.media / name for held in names.values() for name in sorted(held)[:2]]


def _add_motions(data: Path, folder: EverydayFolder, aside: Path) -> None:
    names = folder.motions
    queries: list[tuple[str, Path, int]] = []
    header = "time_s,acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z"
    (folder.media / "motions").mkdir(parents=True)
    for number, recording in enumerate(read_dataset("uci-har-5s", data / "imu_uci_har").items):
        is_query = recording.group == str(SUBJECT)
        path = (aside / f"motion{number:04}.csv") if is_query else folder.media / "motions" / f"{number:04}.csv"
        motion, label = recording.media, in_words(recording.labels[0])
        assert isinstance(motion, Motion)
        times = np.arange(len(motion.samples)) / motion.sample_rate_hz
        np.savetxt(path, np.column_stack([times, motion.samples]), "%.5g", ",", header=header, comments="")
        if is_query:
            queries.append((label, path, number % 2))
        else:
            names.setdefault(label, set()).add(f"motions/{path.name}")
    folder.queries += [
        KnownQuery("motion", bs.imu(path), frozenset(names[label]), Modality.IMU, half) for label, path, half in queries
    ]


def _add_documents(folder: EverydayFolder) -> None:
    """Add licences and documentation of installed packages: one large text, ten long ones, and many short ones."""
    site = Path(sysconfig.get_paths()["purelib"])
    patterns = ("*.dist-info/**/*", "*/README*", "*/LICENSE*")
    found = sorted({path for pattern in patterns for path in site.glob(pattern) if _is_document(path)})
    texts = list(dict.fromkeys(path.read_text("utf-8", errors="replace") for path in found))
    texts.sort(key=len, reverse=True)
    (folder.media / "documents").mkdir()
    large = "\n".join(texts)
    while len(large) < LARGE_DOCUMENT_BYTES:
        large += large
    longer = [text for text in texts if len(text) >= DOCUMENT_BYTES]
    joined = ["\n".join(texts[number::DOCUMENTS]) for number in range(DOCUMENTS)]
    longer += [text[:DOCUMENT_BYTES] for text in joined][: max(0, DOCUMENTS - len(longer))]
    for number, text in enumerate([large[:LARGE_DOCUMENT_BYTES], *longer[:DOCUMENTS]]):
        name = f"documents/long{number:02}.txt"
        (folder.media / name).write_text(text, "utf-8")
        folder.documents.append(name)
    for number, text in enumerate(text for text in texts if len(text) < DOCUMENT_BYTES):
        (folder.media / "documents" / f"{number:03}.txt").write_text(text, "utf-8")


def _is_document(path: Path) -> bool:
    return path.suffix.lower() in ("", ".txt", ".md", ".rst") and path.is_file() and 500 < path.stat().st_size < 400_000


def _add_empty_files(folder: EverydayFolder) -> None:
    import soundfile

    (folder.media / "empty").mkdir()
    for number in range(5):
        name = f"empty/{number}.wav"
        soundfile.write(folder.media / name, np.zeros(16_000 * (3 + number), np.float32), 16_000)
        folder.empty.append(name)
    for number, colour in enumerate(((0, 0, 0), (255, 255, 255), (128, 128, 128), (0, 0, 200), (250, 250, 245))):
        name = f"empty/{number}.png"
        Image.new("RGB", (320, 240), colour).save(folder.media / name)
        folder.empty.append(name)


def _nonsense(chance: random.Random, count: int) -> list[KnownQuery]:
    """Return queries of made-up words, and of words that are no thing to see or hear."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in ("a", "e", "i", "o", "u", "or", "un", "il")]
    words = ["".join(chance.choices(syllables, k=chance.randint(2, 4))) for _ in range(2 * count)]
    texts = [" ".join(words[number : number + chance.randint(1, 3)]) for number in range(count)]
    return [
        KnownQuery("nonsense", bs.text(text), frozenset(), Modality.IMAGE, number % 2)
        for number, text in enumerate(texts)
    ]


def pictures_of_sounds(data: Path, folder: EverydayFolder) -> dict[str, set[str]]:
    """Return the pictures in the folder that show what sounds of a label are made by."""
    pictures: dict[str, set[str]] = {}
    for row in read_rows(data / "audio_image_crosswalk.csv"):
        if row["strength"] == "strong" and row["image_path"] in folder.pictures:
            pictures.setdefault(row["audio_label"], set()).update(folder.pictures[row["image_path"]])
    return pictures


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header."""
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def copy_file(source: Path, target: Path) -> Path:
    """Copy a file, make the folder of the target, and return the target."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return target


def main() -> None:
    """Make the folder, and print what it holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of evaluation data")
    parser.add_argument("--to", type=Path, required=True, help="a new folder")
    arguments = parser.parse_args()
    made = make_folder(arguments.data, arguments.to / "media", arguments.to / "queries")
    kinds = Counter(path.parent.name for path in made.media.rglob("*") if path.is_file())
    print("files:", ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    print(
        f"{len(made.documents)} long documents, {len(made.empty)} files without content, {len(made.same)} to find again"
    )
    for name, queries in (("queries", made.queries), ("queries without an answer", made.unanswered)):
        counts = Counter(query.kind for query in queries)
        print(f"{name}:", ", ".join(f"{count} {kind}" for kind, count in counts.items()))


if __name__ == "__main__":
    main()
