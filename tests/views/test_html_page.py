"""Pages in one file: hostile names are text, nothing is loaded, sizes are bounded, and a browser opens them."""

from __future__ import annotations

import json
import re
import shutil
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import av.container
import numpy as np
import pytest
import soundfile

import bindsearch as bs
from bindsearch.errors import UsageError
from bindsearch.search.query_syntax import parse_query
from bindsearch.views.embedded import PageLimits
from bindsearch.views.html import Html, element, visible
from bindsearch.views.html_page import DEFAULT_LIMITS, write_page
from helpers.command import Run
from helpers.media_files import tone, write_every_modality, write_picture, write_sound, write_video
from helpers.stores import connect

HOSTILE = (
    "<script>alert(1)<!--.png",
    '"><img src=x onerror=alert(1)>.png',
    "' onload='alert(1)&quot;.png",
    "two\nlines\x1b[31m.png",
    "\u202egnp.exe.png",
    "a" * 251 + ".png",
)


class Page(HTMLParser):
    """The elements of a page with their attributes, its texts, and the texts of its scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in self.raw and not self.raw[self.elements[-1][0]]:
            self.raw[self.elements[-1][0]].append(data)
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def content_of(player: dict[str, str | None]) -> bytes:
    return b64decode((player["src"] or "").partition(";base64,")[2])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> bs.Store:
    folder = tmp_path_factory.mktemp("page")
    write_every_modality(folder / "media", copies=1)
    write_video(folder / "media" / "spoken.mp4", 3.0, sound=tone(3.0, 48_000))
    rng = np.random.default_rng(0)
    for name in HOSTILE:
        write_picture(folder / "picture.png", rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        shutil.move(folder / "picture.png", folder / "media" / name)
    store = connect(folder / "store", encoder="mini")
    store.index(folder / "media", rules=["thermal=thermal-*.png"])
    return store


def write(store: bs.Store, path: Path, *lines: str, limits: PageLimits = DEFAULT_LIMITS, k: int = 50) -> Page:
    queries = [bs.make_query(parse_query(line), k=k, include_query=True) for line in lines]
    answers = write_page(path, store, queries, title="Report", limits=limits)
    assert [len(answer["query"]["terms"]) for answer in answers] == [len(query.terms) for query in queries]
    return Page(path)


def test_every_hit_is_shown(store: bs.Store, tmp_path: Path) -> None:
    page = write(store, tmp_path / "page.html", "two cups", f"audio:{store.path.parent}/media/audio-0.wav")
    hits = store.search("two cups", k=50)
    assert {hit.modality.value for hit in hits} == {*bs.Modality}
    assert len(page.named("meter")) == 2 * len(hits)
    for hit in hits:
        assert visible(hit.path.name) in page.text
    pictures = [one["src"] or "" for one in page.named("img")]
    assert pictures
    assert all(b64decode(one.removeprefix("data:image/webp;base64,"))[8:12] == b"WEBP" for one in pictures)
    assert all("alt" in one for one in page.named("img"))
    assert "two cups" in page.text
    assert "+1 \N{MULTIPLICATION SIGN} audio:audio-0.wav" in page.text
    assert "contribution" in page.text
    assert "cosine" in page.text
    assert "estimated for the partitions" in page.text, "the plan is shown"


def test_the_map_of_the_store_is_shown(store: bs.Store, tmp_path: Path) -> None:
    page = write(store, tmp_path / "page.html", "two cups")
    segments = store.status().segments
    circles = [(one["class"] or "").removeprefix("of-") for one in page.named("circle")]
    assert len(circles) == sum(segments.values()) + len(segments)
    assert {*circles} == {modality.value for modality in segments}
    assert f"Map of {sum(segments.values())} of {sum(segments.values())} segments" in page.text


def test_players_hold_the_span(store: bs.Store, tmp_path: Path) -> None:
    media = store.path.parent / "media"
    page = write(store, tmp_path / "page.html", f"audio:{media}/audio-0.wav", f"video:{media}/spoken.mp4")
    sounds, videos = page.named("audio"), page.named("video")
    assert sounds
    assert videos
    samples, rate_hz = soundfile.read(BytesIO(content_of(sounds[0])))
    assert (len(samples) / rate_hz, rate_hz) == (pytest.approx(2.5, abs=0.1), 16_000)
    with av.open(BytesIO(content_of(videos[0]))) as clip:
        assert {stream.type for stream in clip.streams} == {"audio", "video"}
        assert isinstance(clip, av.container.InputContainer)
        assert (clip.duration or 0) / av.time_base == pytest.approx(3.0, abs=0.2)
    for player in (*sounds, *videos):
        assert (player["src"] or "").startswith(("data:audio/mpeg;base64,", "data:video/webm;base64,"))
        assert "controls" in player
        assert player["aria-label"]
        assert "autoplay" not in player


def test_hostile_names_are_text(store: bs.Store, tmp_path: Path) -> None:
    plain = write(store, tmp_path / "plain.html", "two cups", k=1)
    page = write(store, tmp_path / "page.html", "text:'two cups <script>alert(2)</script> \u202e'")
    assert len(page.named("script")) == len(plain.named("script")) == 1
    allowed = {name for _, attributes in page.elements for name in attributes}
    assert not {name for name in allowed if name.startswith("on")}
    assert allowed <= {
        "alt", "aria-label", "aria-labelledby", "charset", "class", "content", "controls", "href", "http-equiv", "id",
        "lang", "loading", "max", "min", "name", "poster", "preload", "rel", "scope", "src", "tabindex", "value",
        "aria-hidden", "cx", "cy", "height", "r", "role", "viewbox", "width",
    }  # fmt: skip
    for shown in (
        "<script>alert(1)<!--.png",
        '"><img src=x onerror=alert(1)>.png',
        "' onload='alert(1)&quot;.png",
        r"\x1b[31m.png",
        r"\u202egnp.exe.png",
        "<script>alert(2)</script>",
    ):
        assert shown in page.text
    content = (tmp_path / "page.html").read_bytes()
    assert not {*content} & {*range(32)} - {0x0A}
    assert "\u202e".encode() not in content


def test_nothing_is_loaded(store: bs.Store, tmp_path: Path) -> None:
    page = write(store, tmp_path / "page.html", "two cups")
    (policy,) = [one["content"] or "" for one in page.named("meta") if one.get("http-equiv")]
    hashes = {
        kind: f"'sha256-{b64encode(sha256(texts[0].encode()).digest()).decode()}'" for kind, texts in page.raw.items()
    }
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        "media-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        f"style-src {hashes['style']}",
        f"script-src {hashes['script']}",
    ]
    for tag, attributes in page.elements:
        for name in ("src", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:"), tag
        assert re.match("#|file:///|$", attributes.get("href") or ""), tag
    assert "http" not in page.raw["script"][0] + page.raw["style"][0]
    assert not re.search(r"https?://", (tmp_path / "page.html").read_text(encoding="utf-8"))


def test_links_start_at_the_span(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    write_sound(tmp_path / "media" / "long.wav", np.concatenate([tone(10), tone(10, frequency_hz=2000)]))
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(tmp_path / "media")
        page = write(store, tmp_path / "page.html", "a sound")
    (link,) = [one["href"] or "" for one in page.named("a")]
    assert re.fullmatch(r"file:///.*/long\.wav#t=(0,10|10,20)", link)


def test_sizes_are_bounded(store: bs.Store, tmp_path: Path) -> None:
    query = f"video:{store.path.parent}/media/spoken.mp4"
    whole = write(store, tmp_path / "whole.html", query)
    small = write(store, tmp_path / "small.html", query, limits=PageLimits(max_bytes=20_000))
    sizes = [
        sum(len(one.get(name) or "") for _, one in page.elements for name in ("src", "poster"))
        for page in (whole, small)
    ]
    assert 0 < sizes[1] <= 20_100 < sizes[0]
    assert "left out: the pictures and clips of this page have reached 0.0191 MB" in small.text
    assert len(small.named("meter")) == len(whole.named("meter"))
    clipless = write(store, tmp_path / "clipless.html", query, limits=PageLimits(max_clip_bytes=100))
    assert not clipless.named("video")
    with pytest.raises(UsageError, match=r"^the page would have 1001 queries: give 1 to 1000$"):
        write_page(tmp_path / "many.html", store, [bs.make_query("a")] * 1001, title="Many")


def test_nothing_stands_out_is_said_and_all_is_folded(tmp_path: Path) -> None:
    write_every_modality(tmp_path / "media")
    with connect(tmp_path / "store", encoder="mini") as store:
        store.index(tmp_path / "media")
        nonsense = write(store, tmp_path / "n.html", "xyzzy qwfp blorp", k=3)
        found = write(store, tmp_path / "f.html", "rain on an old tin roof", k=3)
    line = "Nothing stands out. The matches are guesses: chance finds as good ones."
    assert line in nonsense.text
    assert "Show 3 weak matches" in nonsense.text
    assert line not in found.text
    assert "rain on an old tin roof" in found.text


def test_a_file_that_is_gone_is_said(tmp_path: Path) -> None:
    files = write_every_modality(tmp_path / "media", copies=1)
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(tmp_path / "media")
        for paths in files.values():
            paths[0].unlink()
        page = write(store, tmp_path / "page.html", "two cups")
    assert page.text.count("the file is gone") == len(files)
    assert not page.named("img")
    assert not page.named("a")


def test_report_writes_the_answers_to_a_file_of_queries(
    store: bs.Store, tmp_path: Path, bindsearch_command: Run
) -> None:
    queries = tmp_path / "dogs & rain.txt"
    queries.write_text("# comment\n\ntwo cups\n0.5*'rain' - dog\n")
    page = tmp_path / "page.html"
    done = bindsearch_command(["report", queries, "--html", page, "--store", store.path, "--to", "image", "-k", "2"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{page}: 4 hits of 2 queries\n"
    parsed = Page(page)
    assert "dogs & rain" in parsed.text
    assert "0.5 * rain - dog" in parsed.text
    done = bindsearch_command(["report", queries, "--html", page, "--store", store.path, "--json", "--title", "<b>"])
    facts: dict[str, Any] = json.loads(done.stdout)
    assert facts["size_bytes"] == page.stat().st_size
    assert [one["query"] for one in facts["queries"]] == ["two cups", "0.5*'rain' - dog"]
    assert "<b>" in Page(page).text
    done = bindsearch_command(
        ["report", queries, "--html", page, "--store", store.path, "--where", "item_id < 0", "--json"]
    )
    assert done.returncode == 1
    assert "No hits." in Page(page).text


@pytest.mark.parametrize(
    ("content", "html", "message"),
    [
        (b"a\n", "page.pdf", "page.pdf: expected a name that ends in .html"),
        (b"a\n", "no/page.html", "the folder {folder}/no does not exist"),
        (b"\n# a\n", "page.html", "{folder}/q.txt has no query: write one query a line"),
        (b"\xff\n", "page.html", "{folder}/q.txt is not a text of UTF-8: one query a line is expected"),
        (b"a\n0.5*\n", "page.html", "{folder}/q.txt, line 2: "),
        (None, "page.html", "{folder}/q.txt cannot be read: No such file or directory"),
    ],
)
def test_wrong_use_of_report(
    content: bytes | None, html: str, message: str, store: bs.Store, tmp_path: Path, bindsearch_command: Run
) -> None:
    if content is not None:
        (tmp_path / "q.txt").write_bytes(content)
    done = bindsearch_command(["report", tmp_path / "q.txt", "--html", tmp_path / html, "--store", store.path])
    assert (done.returncode, done.stdout) == (2, "")
    assert message.format(folder=tmp_path) in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_elements_escape_texts_and_attributes() -> None:
    built = element("p", "<b>", element("i", "&"), Html("<hr>"), title='a"\x1b', hidden=True, lang=None, class_="x")
    assert element("i", "caf\udce9 \u202e") == r"<i>caf\udce9 \u202e</i>"
    assert built == '<p title="a&quot;\\x1b" hidden class="x">&lt;b&gt;<i>&amp;</i><hr></p>'


def test_a_browser_opens_it(store: bs.Store, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium")
    write(
        store, tmp_path / "page.html", "two cups", f"video:{store.path.parent}/media/spoken.mp4", "<script>one and two"
    )
    messages: list[str] = []
    requests: list[str] = []
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 360, "height": 700})
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("dialog", lambda dialog: messages.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((tmp_path / "page.html").as_uri())
        for summary in page.locator("summary").all()[:2]:
            summary.focus()
            page.keyboard.press("Enter")
        assert page.locator("details[open]").count() == 2
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        durations = page.evaluate(
            """async () => {
                const players = [...document.querySelectorAll("audio, video")];
                for (const one of players) {
                    one.load();
                    await new Promise((done) => { one.onloadedmetadata = done; one.onerror = done; });
                }
                return players.map((one) => one.duration);
            }"""
        )
        browser.close()
    assert messages == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert durations
    assert all(0.5 < duration < 11 for duration in durations)
