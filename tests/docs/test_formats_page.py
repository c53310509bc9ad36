"""docs/formats.md: its numbers and names are those of the code, and its examples run as printed."""

from __future__ import annotations

import json
import re
import tomllib
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from bindsearch.encoders.preprocessing.crops import MAX_PARTS, WIDE_ASPECT
from bindsearch.environment import EXTRAS, distribution_of
from bindsearch.ingest.inspect.extensions import UNFINISHED
from bindsearch.ingest.manifests.rows import MANIFEST_NAMES, PATH_COLUMNS
from bindsearch.ingest.media.damage import LEAST_SHARE
from bindsearch.ingest.media.hdr import REFERENCE_WHITE_NITS
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures import image
from bindsearch.ingest.media.recordings.audio import _MOST_INVALID
from bindsearch.ingest.media.recordings.sound_track import _RATES_HZ
from bindsearch.ingest.media.sniff import HEAD_BYTES
from bindsearch.ingest.media.texts import documents, pdf
from bindsearch.ingest.scan.default_ignores import FILES, FOLDERS
from generate import KINDS
from helpers.command import run_command
from helpers.document_files import DOCX, NOTEBOOK, make_zip
from helpers.file_bytes import encoded, zip_of
from helpers.media_files import half_and_half, tone, write_sound, write_video
from helpers.pages import become_user, run_page

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "formats.md").read_text(encoding="utf-8")
LETTER = "海の手紙、船と港と網について"


def section(title: str) -> str:
    """Return the text below a heading, up to the next one of its level, on one line."""
    return " ".join(PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0].split())


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def files() -> Mapping[str, str]:
    """Return the files that the page shows, by the path in the line above each."""
    found = re.findall(r"`(media/[^`\n]+)`[^`\n]*:\n\n```(?:json|csv|toml|gitignore)\n(.*?)```", PAGE, re.DOTALL)
    return dict(found)


def test_extras_are_those_that_pyproject_has() -> None:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = settings["optional-dependencies"]
    always = {Requirement(line).name for line in settings["dependencies"]}
    for kind in (kind for kinds in KINDS.values() for kind in kinds if kind.module):
        module = distribution_of(kind.module)
        needed = {Requirement(line).name for line in extras[EXTRAS[kind.module]]} if kind.module in EXTRAS else always
        assert module in needed, kind.name
    installed = re.search(r"pip install 'bindsearch\[(.*?)\]'", section("What is read"))
    assert installed is not None
    assert set(installed[1].split(",")) == set(EXTRAS.values())


def test_numbers_and_names_are_those_of_the_code() -> None:
    options = DecodeOptions()
    assert HEAD_BYTES == 4096
    assert "the first 4 kB of the content" in section("How a kind is found")
    assert {*UNFINISHED} <= quoted(section("How a kind is found"))
    assert LEAST_SHARE == 0.5
    assert f"up to {image.MAX_PAGES};" in section("Pictures")
    assert f"aspect ratio of {WIDE_ASPECT:g} on" in section("Pictures")
    assert f"at most {MAX_PARTS};" in section("Pictures")
    assert f"white of {REFERENCE_WHITE_NITS:g} cd/m²" in section("Pictures")
    assert f"a segment each {options.video_segment_s:g} s" in section("Videos")
    assert (_RATES_HZ, _MOST_INVALID) == ((1_000, 1_000_000), 0.001)
    assert f"{options.max_sound_s / 3600:g} hours at most" in section("Sounds")
    texts = section("Texts and documents")
    assert f"{options.max_text_bytes >> 20} MB at most" in texts
    assert f"the first {pdf.MAX_PAGES} pages" in texts
    assert f"the first {pdf.MAX_PICTURES} pages are pictures" in texts
    assert f"up to {documents._MAX_MARKUP_BYTES >> 20} MB" in texts
    ignored = quoted(section("Folders ignored by default"))
    assert {*FOLDERS, *FILES} <= {name.lower() for name in ignored}
    assert {*PATH_COLUMNS} <= quoted(section("Lists"))
    assert all(name.removeprefix(".") in section("Lists") for name in MANIFEST_NAMES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that the page names, and some that are not read."""
    folder = tmp_path_factory.mktemp("formats")
    media = folder / "media"
    for name in ("letters", "notebooks", "drafts", "node_modules", "old"):
        (media / name).mkdir(parents=True)
    rgb = half_and_half(64, 48)
    Image.fromarray(rgb).save(media / "photo.jpg")
    (media / "photo.jpg.json").write_text(json.dumps([{"SourceFile": "a/photo.jpg", "Title": "A wall"}]))
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(noise).save(media / "half.bmp")
    (media / "half.bmp").write_bytes((media / "half.bmp").read_bytes()[: 54 + 31 * 64 * 3])
    (media / "third.bmp").write_bytes((media / "half.bmp").read_bytes()[: 54 + 16 * 64 * 3])
    write_video(media / "clip.mkv", 2.0, picture=lambda time_s: np.roll(rgb, int(20 * time_s), 1))
    write_sound(media / "song.mp3", tone(2.0)).rename(media / "song.unknown")
    (media / "letter.txt").write_bytes("Письмо о море и лодках".encode("cp1251"))
    (media / "unclear.txt").write_bytes("Привет".encode("cp1251"))
    (media / "poem.txt").write_bytes("Стихи о море".encode("koi8-r"))
    (media / "letters" / "one.txt").write_bytes(LETTER.encode("shift_jis"))
    (media / "notebooks" / "boats.ipynb").write_text(json.dumps(NOTEBOOK))
    (media / "drafts" / "draft.txt").write_text("words")
    (media / "node_modules" / "readme.md").write_text("A program about boats.")
    (media / "contacts.csv").write_text("name,path\nAnn,north\n")
    (media / "drawing.svg").write_text("<svg/>")
    (media / "sheet.xlsx").write_text("no text")
    make_zip(media / "report.docx", DOCX)
    raw = zip_of({"xxxx.png": encoded(Image.fromarray(255 - rgb), "png")})
    (media / "old" / "photos.zip").write_bytes(raw.replace(b"xxxx.png", "море.png".encode("cp866")))
    (media / "gone.jpg").symlink_to(media / "nothing.jpg")
    names = {Path(name).name for name in files()}
    assert names == {"letter.txt.json", "list.csv", ".bindsearch.toml", ".bindsearchignore"}
    for name, content in files().items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Return a function that runs a command of the page in the folder, with a store of its own."""

    def run(*arguments: str, code: int = 0) -> str:
        given = [str(folder / one) if one.startswith("media") else one for one in arguments]
        done = run_command([*given, "--store", str(folder / "store")])
        assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    return run


def shown(run: Callable[..., str], name: str) -> Mapping[str, object]:
    found: Mapping[str, object] = json.loads(run("show", f"media/{name}", "--json", "--root", "media"))
    return found


def test_the_page_runs_as_printed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(PAGE, folder, become_user(folder, monkeypatch))


def test_the_last_lines_are_as_printed(run: Callable[..., str]) -> None:
    (printed,) = blocks("text")
    found = run("index", "media", "--encoder", "null", code=3)
    lines = [re.sub(r"[\d.]+ s$", "1.2 s", line) for line in found.splitlines() if not line.startswith("note")]
    assert [line for line in lines if not line.startswith(("failed: ", "try: "))] == printed.splitlines()
    failed = {line.split(": ", 2)[1].rpartition("/")[2]: line.split(": ", 2)[2] for line in lines if "failed: " in line}
    assert failed.keys() == {"third.bmp", "unclear.txt"}
    assert failed["third.bmp"].startswith("damaged or truncated: 16 of 48 rows of pixels")
    assert f"    {failed['unclear.txt']}\n" in PAGE


def test_what_the_page_says_of_the_files(run: Callable[..., str]) -> None:
    run("index", "media", "--encoder", "null", code=3)
    note = re.search(r"    (damaged or truncated: .*)", PAGE)
    assert note is not None
    assert note[1] in json.dumps(shown(run, "half.bmp"))
    assert "JSON of exiftool beside it: 1 caption, title used" in json.dumps(shown(run, "photo.jpg"))
    for name, text in (("letter.txt", "Письмо о море"), ("poem.txt", "Стихи"), ("letters/one.txt", LETTER)):
        assert text in json.dumps(shown(run, name), ensure_ascii=False)
    assert shown(run, "song.unknown")["modality"] == "audio"
    left_out = run("status", "--left-out")
    assert "drafts: named in .bindsearchignore" in left_out
    assert "node_modules" not in left_out
    assert "gone.jpg: a link to nothing" in left_out
    found = run("search", "море", "--words", "--paths")
    assert {Path(line).name for line in found.splitlines()} == {"море.png", "poem.txt", "letter.txt"}


def test_names_are_found_composed_or_decomposed(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / unicodedata.normalize("NFD", "café.txt")).write_text("a harbour")
    store = ["--store", str(tmp_path / "store")]
    run_command(["index", tmp_path / "media", "--encoder", "null", *store])
    done = run_command(["forget", str(tmp_path / "media" / unicodedata.normalize("NFC", "café.txt")), *store])
    assert done.returncode == 0
    assert "1" in done.stdout


def test_a_moved_folder_takes_its_vectors_along(tmp_path: Path) -> None:
    old, store = tmp_path / "a" / "old", ["--store", str(tmp_path / "store")]
    old.mkdir(parents=True)
    for number in range(3):
        (old / f"{number}.txt").write_text(f"words of {number}")
    run_command(["index", old, "--encoder", "null", *store])
    new = old.rename(tmp_path / "a" / "new")
    done = run_command(["index", new, "--encoder", "null", *store])
    assert f"{old} is gone, and 3 of its files are in {new}: moved with their vectors" in done.stderr
    assert done.stdout.startswith("0 added, 0 changed, 0 removed, 3 unchanged")
