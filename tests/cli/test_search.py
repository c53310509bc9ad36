"""explain, optimize, filters and index options as users type them, in processes of their own."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bindsearch.operations.locate.words import place_in_words
from helpers.command import Run
from helpers.media_files import tone, write_sound
from helpers.stores import connect


@pytest.fixture
def folder(tmp_path: Path, bindsearch_command: Run) -> Path:
    """60 pictures in two folders and two notes, indexed with codes and lists although they are few."""
    folder = tmp_path / "media"
    for number in range(60):
        place = folder / ("sea" if number % 2 else "hill")
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
        (place / f"{number}.png.json").write_text(json.dumps({"columns": {"rating": number % 5}}))
    (folder / "notes.txt").write_text("a dog runs on the beach")
    done = bindsearch_command(
        ["index", folder, "--encoder", "null", "--index", "ivfpq", "--recall", "0.9", "--index-option", "lists=2"]
    )
    assert done.returncode == 0, done.stderr
    return folder


def found(done: subprocess.CompletedProcess[str]) -> list[Path]:
    assert done.returncode == 0, done.stderr
    return [Path(line) for line in done.stdout.splitlines()]


def test_status_shows_each_index_with_what_was_measured(folder: Path, bindsearch_command: Run) -> None:
    shown = bindsearch_command(["status"]).stdout
    assert "index       image: ivfpq, 2 lists" in shown
    assert "image    -> image    recall" in shown
    status = json.loads(bindsearch_command(["status", "--json"]).stdout)
    image = next(part for part in status["partitions"] if part["modality"] == "image")
    assert (image["form"], image["rows"], image["covered"], image["trouble"]) == ("ivfpq", 60, 60, None)
    assert {point["source"] for point in image["points"]} >= {"image", "text", "mixed", "imu"}


def test_explain_tells_the_plan_and_analyze_what_it_took(folder: Path, bindsearch_command: Run) -> None:
    query = ["a dog", "--to", "image,text", "--where", "rating >= 3"]
    shown = bindsearch_command(["explain", *query])
    assert shown.returncode == 0, shown.stderr
    assert "a dog" in shown.stdout
    assert "rating >= 3" in shown.stdout
    analyzed = bindsearch_command(["explain", *query, "--analyze"])
    assert analyzed.returncode == 0, analyzed.stderr
    assert analyzed.stdout != shown.stdout
    plan = json.loads(bindsearch_command(["explain", *query, "--json"]).stdout)
    assert {part["modality"] for part in plan["partitions"]} == {"image", "text"}
    assert json.loads(bindsearch_command(["explain", *query, "--analyze", "--json"]).stdout)["schema"] == 1


def test_filters_add_up(folder: Path, bindsearch_command: Run) -> None:
    query = ["search", "a dog", "--to", "image", "--paths", "-k", "100"]
    assert len(found(bindsearch_command(query))) == 60
    rated = found(bindsearch_command([*query, "--where", "rating = 3 or rating is null"]))
    assert {int(path.stem) % 5 for path in rated} == {3}
    both = found(bindsearch_command([*query, "--where", "rating = 3", "--under", folder / "sea"]))
    assert both
    assert set(both) == {path for path in rated if path.parent.name == "sea"}
    assert len(found(bindsearch_command([*query, "--since", "1h", "--collection", "media"]))) == 60
    nowhere = bindsearch_command([*query, "--under", folder / "seas"])
    assert (nowhere.returncode, nowhere.stdout) == (1, "")
    assert f"nothing in {folder / 'seas'} is indexed: did you mean {folder / 'sea'}" in nowhere.stderr
    nothing = bindsearch_command([*query, "--until", "2001-01-01"])
    assert nothing.returncode == 1
    assert "no hits: searched 0 segments of image" in nothing.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--where", "read_text('/etc/passwd') = ''"], "read_text"),
        (["--where", "ratin > 3"], "rating"),
        (["--where", "name=IMG"], "there is no column 'IMG': write 'IMG' in single quotes if it is a text; columns"),
        (["--where", "name like 7.png"], "syntax error"),
        (["--where", "name = a.png"], "write 'a.png' in single quotes if it is a text; write \"a.png\" in double"),
        (["--where", "rating >"], "the filter does not parse"),
        (["--collection", "nowhere"], "media"),
        (["--since", "yesterday-ish"], "yesterday-ish"),
        (["--diversity", "2"], "diversity is 2.0"),
    ],
)
def test_a_wrong_filter_is_one_line(folder: Path, bindsearch_command: Run, option: list[str], message: str) -> None:
    done = bindsearch_command(["search", "a dog", *option])
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


def test_optimize_does_what_is_asked_and_remembers_it(folder: Path, bindsearch_command: Run) -> None:
    assert "all indexes are up to date" in bindsearch_command(["optimize"]).stdout
    assert "build" in bindsearch_command(["optimize", "--force"]).stdout
    done = json.loads(bindsearch_command(["optimize", "--recall", "0.95", "--json"]).stdout)
    assert {part["work"] for part in done["partitions"]} == {"build"}
    status = json.loads(bindsearch_command(["status", "--json"]).stdout)
    image = next(part for part in status["partitions"] if part["modality"] == "image")
    assert image["parameters"]["lists"] == 2
    assert "drop" in bindsearch_command(["optimize", "--index", "exact"]).stdout
    assert "index  " not in bindsearch_command(["status"]).stdout
    wrong = bindsearch_command(["optimize", "--index", "hnsw"])
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert bindsearch_command(["optimize", "--memory", "much"]).returncode == 2


def test_a_damaged_index_is_told_and_answered_around(folder: Path, bindsearch_command: Run, tmp_path: Path) -> None:
    query = ["search", "a dog", "--to", "image", "--json"]
    whole = json.loads(bindsearch_command(query).stdout)
    (path,) = (tmp_path / "store" / "indexes" / "image").glob("*/index.faiss")
    path.write_bytes(path.read_bytes()[:-1])
    done = bindsearch_command(query)
    assert "note: " in done.stderr
    assert "index.faiss" in done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["notices"]) == 1
    assert [hit["path"] for hit in answer["hits"]] == [hit["path"] for hit in whole["hits"]]
    assert "damaged" in bindsearch_command(["optimize"]).stdout
    assert bindsearch_command(query).stderr == ""


def test_a_diverse_list_differs_and_holds_as_many(folder: Path, bindsearch_command: Run) -> None:
    query = ["search", "a dog", "--to", "image", "--paths", "-k", "8"]
    plain, diverse = found(bindsearch_command(query)), found(bindsearch_command([*query, "--diversity", "0.9"]))
    assert plain[0] == diverse[0]
    assert plain != diverse
    assert len(set(diverse)) == 8


def test_words_search_names_and_texts_alone_or_not_at_all(folder: Path, bindsearch_command: Run) -> None:
    assert found(bindsearch_command(["search", "--words", "beach dog", "--paths"])) == [folder / "notes.txt"]
    assert found(bindsearch_command(["search", "--words", "hill 42", "--paths", "-k", "1"])) == [
        folder / "hill" / "42.png"
    ]
    nothing = bindsearch_command(["search", "--words", "xylophone"])
    assert nothing.returncode == 1
    assert "names and texts" in nothing.stderr
    hits = {
        option: json.loads(bindsearch_command(["search", "dog", "beach", "--json", *option]).stdout)["hits"]
        for option in ((), ("--no-words",))
    }
    assert hits[()][0]["path"] == str(folder / "notes.txt")
    assert hits[()][0]["found_by"] in ("words", "both")
    assert {hit["found_by"] for hit in hits["--no-words",]} == {"vector"}


def test_explain_names_the_words_and_what_they_took(folder: Path, bindsearch_command: Run) -> None:
    assert "words      dog, beach in " in bindsearch_command(["explain", "dog", "beach"]).stdout
    assert "found 1 in " in bindsearch_command(["explain", "dog", "beach", "--analyze"]).stdout
    alone = bindsearch_command(["explain", "--words", "dog", "beach", "--where", "rating >= 3"]).stdout
    assert "its words, no model" in alone
    assert "partition" not in alone
    assert "words" not in bindsearch_command(["explain", "dog", "--no-words"]).stdout


@pytest.fixture(scope="module")
def two_halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a picture of a cat on the left half of it, a sound, a text, and the store of them."""
    skimage = pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("halves")
    media = folder / "media"
    media.mkdir()
    with Image.open(Path(skimage.__file__).parent / "data" / "chelsea.png") as picture:
        cat = picture.convert("RGB").resize((300, 300))
    both = Image.new("RGB", (600, 300), (120, 130, 140))
    both.paste(cat, (0, 0))
    both.paste(Image.effect_noise((300, 300), 40).convert("RGB"), (300, 0))
    both.save(media / "both.png")
    write_sound(media / "tone.wav", tone(3.0))
    (media / "note.txt").write_text("a cat sleeps on the sofa")
    with connect(folder / "store", encoder="mini") as store:
        store.index(media)
    return folder


def test_places_are_in_every_form_of_output(two_halves: Path, bindsearch_command: Run) -> None:
    line: list[str | Path] = ["search", "a cat", "--store", two_halves / "store", "--locate", "--flat"]
    answer = json.loads(bindsearch_command([*line, "--json"]).stdout)
    places = {Path(hit["path"]).name: hit["located"] for hit in answer["hits"]}
    assert places["note.txt"] is None
    (best, *_) = places["both.png"]["boxes"]
    assert (best["left"] + best["right"]) / 2 < 0.5
    assert best["relevance"] >= 0.9
    curve = places["tone.wav"]["curve"]
    assert (curve["start_s"], curve["end_s"]) == (0, 3)  # of the file, not of the middles of its views
    assert 0 < curve["times_s"][0] <= curve["times_s"][-1] < 3
    table = bindsearch_command(line).stdout
    words = place_in_words(places["both.png"])
    assert f"\n{'':29}{words}\n" in table
    assert bindsearch_command([*line, "--to", "image", "--format", "{place}"]).stdout == f"{words}\n"
    assert words in bindsearch_command([*line, "--csv"]).stdout
    lines = [json.loads(one) for one in bindsearch_command([*line, "--jsonl"]).stdout.splitlines()]
    assert {Path(hit["path"]).name: hit["located"] for hit in lines} == places
    plain = bindsearch_command(["search", "a cat", "--store", two_halves / "store", "--json"])
    assert {hit["located"] for hit in json.loads(plain.stdout)["hits"]} == {None}


def test_boxes_are_drawn_into_thumbnails(two_halves: Path, bindsearch_command: Run) -> None:
    store: list[str | Path] = ["--store", two_halves / "store"]
    line = ["search", "a cat", *store, "--to", "image", "--preview=blocks", "--color", "never"]
    yellow = "38;2;255;225;77"
    assert yellow not in bindsearch_command(line).stdout
    assert yellow in bindsearch_command([*line, "--locate"]).stdout


def test_places_are_in_galleries(two_halves: Path, bindsearch_command: Run, tmp_path: Path) -> None:
    (tmp_path / "queries.txt").write_text("a cat\n")
    store: list[str | Path] = ["--store", two_halves / "store"]
    lines: dict[str, list[str | Path]] = {
        "search.html": ["search", "a cat", "--html", tmp_path / "search.html"],
        "report.html": ["report", tmp_path / "queries.txt", "--html", tmp_path / "report.html"],
    }
    for name, line in lines.items():
        assert bindsearch_command([*line, *store]).returncode == 0
        assert 'class="located"' not in (tmp_path / name).read_text()
        assert bindsearch_command([*line, *store, "--locate"]).returncode == 0
        written = (tmp_path / name).read_text()
        assert written.count('class="located"') == 2
        shown, _, folded = written.partition("<summary>Show ")
        assert '<li class="weak">' in shown, "a weak match of which a part answers is not folded"
        assert 'class="box best"' in shown
        assert 'class="box best"' not in folded
