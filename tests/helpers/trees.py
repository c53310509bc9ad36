"""Trees of small files of several kinds, written and changed by chance."""

from __future__ import annotations

import random
from pathlib import Path

from helpers.file_bytes import tar_of, zip_of
from helpers.media_files import two_tone, write_picture


def write_tree(folder: Path, rng: random.Random, names: int = 24) -> None:
    """Write files of several kinds into folders; some are copies, ignored, hidden, damaged or not media."""
    folders = [folder, folder / "a", folder / "a" / "b", folder / "c d"]
    for one in folders:
        one.mkdir(parents=True, exist_ok=True)
    for number in range(names):
        write_any(rng.choice(folders), f"f{number}", rng)
    (folder / "a" / ".hidden.txt").write_text("hidden")
    (folder / "skipped").mkdir(exist_ok=True)
    (folder / "skipped" / "x.txt").write_text("ignored")
    (folder / ".bindsearchignore").write_text("skipped/\n*.tmp.txt\n")
    (folder / "c d" / "one.tmp.txt").write_text("ignored, too")
    (folder / "a" / "list.csv").write_text(
        "path,caption,album\n" + "".join(f"f{number}.txt,the file {number},trip\n" for number in range(names))
    )


def write_any(folder: Path, name: str, rng: random.Random) -> None:
    """Write one file of some kind."""
    kind = rng.randrange(9)
    shade = rng.randrange(30, 60)  # few, so that there are copies
    if kind <= 2:
        (folder / f"{name}.txt").write_text(f"some words about number {rng.randrange(40)}")
    elif kind == 3:
        write_picture(folder / f"{name}.png", two_tone(32, shade))
        (folder / f"{name}.png.json").write_text('{"caption": "a picture", "place": "north"}')
    elif kind == 4:
        write_picture(folder / f"{name}.png", two_tone(32, shade))
    elif kind == 5:
        (folder / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    elif kind == 6:
        (folder / f"{name}.bin").write_bytes(bytes(rng.randrange(256) for _ in range(40)))
    elif kind == 7:
        members = {f"m{n}.txt": f"member {rng.randrange(1000)}".encode() for n in range(4)}
        (folder / f"{name}.zip").write_bytes(zip_of(members | {"x.bin": b"\0\1\2\3" * 9}))
    else:
        members = {f"{n:04d}.txt": f"sample {rng.randrange(1000)}".encode() for n in range(3)}
        (folder / f"{name}.tar").write_bytes(tar_of(members))


def change(folder: Path, rng: random.Random) -> None:
    """Change, delete, rename and add files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in (".txt", ".png", ".zip"))
    for path in rng.sample(files, 4):
        path.unlink()
    for number, path in enumerate(rng.sample([path for path in files if path.exists()], 5)):
        path.rename(path.with_name(f"renamed{number}-{rng.randrange(10**6)}{path.suffix}"))
    for path in [path for path in files if path.exists() and path.suffix == ".txt"][:2]:
        path.write_text(f"other words {rng.randrange(10**6)}")
    for number in range(4):
        write_any(folder / "a", f"new{number}-{rng.randrange(10**6)}", rng)
