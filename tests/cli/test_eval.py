"""`bindsearch eval` as users meet it: processes on small real files; messages, the page, and what is kept."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.command import Run
from helpers.media_files import motion, tone, write_motion_csv, write_sound
from helpers.stores import connect

HOSTILE = "<img src=x onerror=\"alert(1)\"> & 'quoted'"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a list of twelve pictures of one colour with a little noise, their colours as labels and captions."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = ["path,label,caption,fold"]
    for number in range(12):
        colour = ("red", "green", "blue")[number % 3]
        rgb = rng.integers(0, 60, (64, 64, 3), np.uint8)
        rgb[:, :, number % 3] += 150
        Image.fromarray(rgb).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{colour},a {colour} picture {number},{number % 2}")
    path = folder / "labels.csv"
    path.write_text("\n".join(rows))
    return path


class Reader(HTMLParser):
    """Reads what a page loads, runs and shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.elements: list[str] = []
        self.attributes: list[str] = []
        self.texts: list[str] = []
        self.policy = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [name for name, _ in attrs]
        values = dict(attrs)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "data", "poster", "srcset")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_list_of_ones_own_as_a_table_and_as_json(photos: Path, bindsearch_process: Run) -> None:
    done = bindsearch_process(["eval", photos, "--encoder", "mini"])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(r"zero-shot, image -> name of the class +top-1 +\d+\.\d% +±\d+\.\d% \S+.* 12 +33\.3%", done.stdout)
    assert re.search(r"encoder mini, digest [0-9a-f]{32}, \d", done.stdout)
    data = json.loads(bindsearch_process(["eval", photos, "--encoder", "mini", "--json"]).stdout)
    (one,) = data["sets"]
    assert (one["name"], one["items"], one["listed"], one["failures"]) == ("labels", 12, 12, [])
    kinds = [part["kind"] for part in one["measurements"]]
    assert kinds == ["zero-shot", "retrieval", "retrieval", "space", "calibration"]
    assert data["encoder"]["name"] == "mini"
    assert data["settings"]["split"] == "all"


def test_the_page_holds_all_and_runs_nothing(photos: Path, tmp_path: Path, bindsearch_process: Run) -> None:
    listed = photos.with_name("hostile.csv")
    name = HOSTILE.replace("/", "")
    (photos.parent / f"{name}.png").write_bytes((photos.parent / "0.png").read_bytes())
    quoted = f'"{name.replace(chr(34), chr(34) * 2)}.png"'
    rows = photos.read_text().splitlines()
    caption = '"' + HOSTILE.replace('"', '""') + '"'
    listed.write_text("\n".join([*rows, f"{quoted},{caption},{caption},0", 'gone.png,red,"<b>gone</b>",1']))
    html = tmp_path / "report.html"
    done = bindsearch_process(["eval", listed, "--encoder", "mini", "--html", html])
    assert done.returncode == 0, done.stderr
    assert "1 of 14 left out: no file (the first: 'gone.png')" in done.stdout
    text = html.read_text()
    page = Reader(text)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert any(address.startswith("data:image/webp;base64,") for address in page.addresses)
    assert not {"script", "iframe", "object", "embed", "link", "b"} & {*page.elements}
    assert not [name for name in page.attributes if name.startswith("on") or name == "style"]
    assert page.policy.startswith("default-src 'none'; img-src data:; media-src data:; base-uri 'none'")
    assert "unsafe" not in page.policy
    assert page.elements.count("svg") >= 3
    assert any(HOSTILE in shown for shown in page.texts)
    assert "@import" not in text
    assert "url(" not in text


def test_sounds_and_motion_are_shown(tmp_path: Path, bindsearch_command: Run) -> None:
    rows = ["path,label"]
    for number in range(4):
        write_sound(tmp_path / f"{number}.wav", tone(0.5, frequency_hz=300.0 * (number + 1)))
        rows.append(f"{number}.wav,{'low' if number < 2 else 'high'}")
    (tmp_path / "sounds.csv").write_text("\n".join(rows))
    done = bindsearch_command(
        ["eval", tmp_path / "sounds.csv", "--encoder", "null", "--html", tmp_path / "sounds.html"]
    )
    assert done.returncode == 0, done.stderr
    page = Reader((tmp_path / "sounds.html").read_text())
    assert "audio" in page.elements
    assert any(address.startswith("data:audio/") for address in page.addresses)
    rng = np.random.default_rng(0)
    rows = ["path,label,modality"]
    for number in range(3):
        write_motion_csv(tmp_path / f"m{number}.csv", motion(5.0) + 0.2 * rng.standard_normal((250, 6)))
        rows.append(f"m{number}.csv,{number},imu")
    (tmp_path / "motion.csv").write_text("\n".join(rows))
    done = bindsearch_command(["eval", tmp_path / "motion.csv", "--encoder", "null", "--html", tmp_path / "m.html"])
    assert done.returncode == 0, done.stderr
    assert "img" in Reader((tmp_path / "m.html").read_text()).elements


def test_a_damaged_file_is_counted_and_the_exit_code_says_so(photos: Path, bindsearch_command: Run) -> None:
    (photos.parent / "4.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    done = bindsearch_command(["eval", photos, "--encoder", "null", "--json"])
    assert done.returncode == 3
    (one,) = json.loads(done.stdout)["sets"]
    assert (one["items"], one["listed"]) == (11, 12)
    assert [failure["name"] for failure in one["failures"]] == ["4.png"]
    assert one["failures"][0]["reason"]


def test_the_second_run_reads_the_cache_and_has_the_same_figures(
    photos: Path, tmp_path: Path, bindsearch_process: Run
) -> None:
    line = ["eval", str(photos), "--encoder", "mini", "--json", "--cache", str(tmp_path / "cache")]
    first, second = (json.loads(bindsearch_process(line).stdout) for _ in range(2))
    for one in (first, second):
        one["sets"][0].pop("took_s")
        one.pop("took_s")
    assert first == second
    files = sorted((tmp_path / "cache").rglob("*.npz"))
    assert files
    assert json.loads(bindsearch_process(line).stdout)["sets"][0]["items"] == 12
    assert sorted((tmp_path / "cache").rglob("*.npz")) == files


def test_a_store_is_measured(tmp_path: Path, photos: Path, bindsearch_process: Run) -> None:
    with connect(tmp_path / "store", encoder="mini") as store:
        store.index(photos.parent)
    done = bindsearch_process(["eval", "engine"])
    assert done.returncode == 0, done.stderr
    assert re.search(r"text +image +12 +exact +10 +100% +0 +0 +1\.0000", done.stdout)
    data = json.loads(bindsearch_process(["eval", "space", "--json"]).stdout)
    names = [figure["name"] for figure in data["sets"][0]["measurements"][0]["figures"]]
    assert "uniformity image" in names


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("eval esc5", "unknown data set 'esc5': did you mean 'esc50' or "),
        ("eval esc50", "esc50 needs data: give their folder with --data DIR"),
        ("eval esc50 --data {folder}/none", "/none does not exist: esc50 expects a folder with"),
        ("eval {folder}/none.csv", "/none.csv"),
        ("eval {photos} --templates nonsense", "unknown set of templates 'nonsense'"),
        ("eval {photos} --shots two", "--shots is 'two': give numbers of samples a class, such as 1,2,4,8"),
        ("eval {photos} --modality smell", "unknown modality 'smell': "),
        ("eval {photos} --encoder nobody", "unknown encoder 'nobody'"),
        ("eval {photos} --html {folder}/report.txt", "expected a name that ends in .html"),
        ("eval {photos} --split test", "has no rows of the split 'test': it has no column split"),
        ("eval engine --store {folder}/none", "no store at "),
    ],
)
def test_a_wrong_call_is_one_line(
    line: str, message: str, photos: Path, tmp_path: Path, bindsearch_command: Run
) -> None:
    done = bindsearch_command([word.format(folder=tmp_path, photos=photos) for word in line.split()])
    assert done.returncode in (2, 4)
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_quality_suite_measures_what_was_measured_before(
    shared_data: Path, tmp_path: Path, bindsearch_command: Run
) -> None:
    """Of its quick parts: depth that finds the picture of its scene, and motion of subject 18."""
    suite = Path(__file__).parents[2] / "benchmarks" / "quality.toml"
    kept = [part for part in suite.read_text().split("[[sets]]")[1:] if '"rgbd-pairs"' in part or '"18"' in part]
    assert len(kept) == 2
    (tmp_path / "quick.toml").write_text("".join(f"[[sets]]{part}" for part in kept))
    done = bindsearch_command(["eval", tmp_path / "quick.toml", "--data", shared_data, "--json"])
    assert done.returncode == 0, done.stderr
    depth, motion = json.loads(done.stdout)["sets"]
    figures = {
        (part["title"], one["name"]): one for part in depth["measurements"] for one in part["figures"] if one["n"] == 13
    }
    nearest = figures["depth -> image", "R@1 of the same label"]
    assert nearest["value"] == pytest.approx(10 / 13, abs=1e-5)
    assert nearest["chance"] == pytest.approx(39 / 169, abs=1e-5)
    assert motion["items"] == 114
    assert motion["measurements"][0]["figures"][0]["value"] == pytest.approx(108 / 114, abs=0.02)
