"""The button "Where?" of the detail view: places of pictures, sounds and videos, stopped, refused and put back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from bindsearch.operations.show.drawing import AXIS_LEFT
from helpers.browser import Visit, visiting
from helpers.server_process import serving
from helpers.stores import connect
from helpers.waiting import wait_for

SLOW = """
const plain = window.fetch;
window.given_up = 0;
window.fetch = async (path, options) => {
    if (path === "/api/locate") {
        await new Promise((done, fail) => {
            setTimeout(done, 20000);
            options.signal.addEventListener("abort", () => {
                window.given_up += 1;
                fail(new DOMException("stopped", "AbortError"));
            });
        });
    }
    return plain(path, options);
};
"""


def open_hit(visit: Visit, name: str, **query: str | list[str]) -> Page:
    page = visit.go("/", **{"weak": "1", **query})
    page.locator(".card", has_text=name).first.click()
    page.locator("#detail .stage").wait_for()
    return page


def show_places(page: Page) -> str:
    """Press the button by keyboard, and return what is said."""
    page.get_by_role("button", name="Where?").focus()
    page.keyboard.press("Enter")
    page.locator("button[aria-pressed=true]", has_text="Where?").wait_for()
    return page.locator("#detail .places[role=status]").inner_text()


def test_a_picture_has_a_heat_map_and_boxes_over_it(visit: Visit) -> None:
    page = open_hit(visit, "photo_01.jpg", q="a cat", to="image")
    said = show_places(page)
    assert "relevance" in said
    visit.until("[...document.querySelectorAll('.boxes img')].every((one) => one.naturalWidth > 0)")
    assert page.locator(".boxes .heat").count() == 1
    sides = "[...document.querySelectorAll('.boxes > *')].map((one) => one.getBoundingClientRect().toJSON())"
    shown, *over = page.evaluate(sides)
    assert shown["width"] > 100
    assert all(abs(one[side] - shown[side]) <= 1 for one in over for side in ("left", "top", "right", "bottom"))
    alt = page.locator(".boxes .figure").get_attribute("alt") or ""
    assert alt.startswith("Image photos/photo_01.jpg: ")
    page.keyboard.press("Enter")
    page.locator("button[aria-pressed=false]", has_text="Where?").wait_for()
    assert page.locator(".boxes").count() == 0
    assert page.locator(".stage .figure").count() == 1


@pytest.fixture
def cats_visit(tmp_path: Path, browser: Browser) -> Iterator[Visit]:
    """Return a page of a store with a picture of two cats in noise."""
    skimage = pytest.importorskip("skimage")
    (tmp_path / "media").mkdir()
    with Image.open(Path(skimage.__file__).parent / "data" / "chelsea.png") as picture:
        cat = picture.convert("RGB").resize((250, 250))
    cats = Image.effect_noise((900, 600), 40).convert("RGB")
    for corner in ((0, 20), (650, 320)):
        cats.paste(cat, corner)
    cats.save(tmp_path / "media" / "cats.png")
    connect(tmp_path / "store", encoder="mini").index(tmp_path / "media")
    with serving(tmp_path / "store") as running, visiting(browser, f"http://127.0.0.1:{running.port}") as visit:
        yield visit


def test_places_are_numbered_and_listed(cats_visit: Visit) -> None:
    page = open_hit(cats_visit, "cats.png", q="a cat", to="image")
    command = page.locator("#detail .command code").last
    assert "--locate" not in command.inner_text()
    said = show_places(page)
    assert re.match(r"[A-Z].*, and [1-9] more\.", said), said
    assert command.inner_text().startswith("bindsearch search --locate ")
    listed = page.locator("#detail .place-list button")
    n = page.locator(".boxes .box").count()
    assert listed.count() == n > 1
    assert page.locator(".boxes .labels text").all_text_contents() == [str(number) for number in range(1, n + 1)]
    assert all("relevance" in text for text in listed.all_inner_texts())
    second = page.locator(".boxes [data-place='1']")
    listed.nth(0).focus()
    page.keyboard.press("Tab")
    assert second.get_attribute("class") == "box emphasised"
    page.keyboard.press("Tab")
    assert second.get_attribute("class") == "box"
    listed.nth(1).hover()
    assert second.get_attribute("class") == "box emphasised"
    dashes = "[...document.querySelectorAll('.boxes .box')].map((one) => getComputedStyle(one).strokeDasharray)"
    assert set(page.evaluate(dashes)) == {"none"}
    assert page.locator(".scale").inner_text().split() == ["relevance", "0", "1"]


def test_a_sound_keeps_its_player_above_the_curve(visit: Visit) -> None:
    page = open_hit(visit, "sound_02.wav", q="rain", to="audio")
    show_places(page)
    assert page.locator(".stage audio").count() == 1
    curve = page.locator(".stage svg.curve")
    length_s = page.evaluate("document.querySelector('.stage audio').duration")
    assert curve.get_attribute("aria-label") == f"Relevance from 0 to 1 over 0:00 to 0:{length_s:02g}"
    assert page.locator(".stage .ends span").all_inner_texts()[::2] == ["0:00", f"0:{length_s:02g}"]
    assert curve.locator("polyline").count() == 1
    visit.until("document.querySelector('.stage .figure').naturalWidth > 0")
    figure, chart = (page.locator(one).bounding_box() for one in (".stage .figure", ".stage .chart"))
    assert figure is not None
    assert chart is not None
    assert abs(chart["x"] - figure["x"] - figure["width"] * AXIS_LEFT / 960) < 2, "below the time axis of the figure"
    assert abs(chart["width"] - figure["width"] * (960 - AXIS_LEFT - 100) / 960) < 2


def test_a_video_and_a_depth_map_are_shown_as_pictures(visit: Visit) -> None:
    for name, kind in (("clip_01.mp4", "video"), ("scan_01.png", "depth")):
        page = open_hit(visit, name, q="a street", to=kind)
        show_places(page)
        visit.until("[...document.querySelectorAll('.boxes img')].every((one) => one.naturalWidth > 0)")
        assert page.locator(".boxes .heat").count() == 1


def test_an_upload_is_located(visit: Visit, demo: Path) -> None:
    page = visit.go(to="image", weak="1")
    visit.drop(demo / "queries" / "bark.wav", "audio/wav")
    page.locator(".card").first.click()
    page.locator("#detail .stage").wait_for()
    assert "relevance" in show_places(page)


def test_what_takes_long_is_stopped(visit: Visit) -> None:
    visit.page.add_init_script(SLOW)
    page = open_hit(visit, "photo_01.jpg", q="a cat", to="image")
    page.get_by_role("button", name="Where?").click()
    page.get_by_role("button", name="Stop").click()
    visit.until("window.given_up === 1")
    assert page.locator("#detail .places").inner_text() == ""
    page.get_by_role("button", name="Where?").click()
    page.get_by_role("button", name="Stop").wait_for()
    page.get_by_role("button", name="Next result").click()  # another hit is shown: what runs is given up
    visit.until("window.given_up === 2")
    page.get_by_role("button", name="Where?").click()
    page.get_by_role("button", name="Stop").wait_for()
    page.keyboard.press("Escape")
    visit.until("window.given_up === 3")


def test_a_passage_has_no_button(visit: Visit) -> None:
    page = open_hit(visit, "note_07.txt", q="coffee", to="text")
    assert page.get_by_role("button", name="Where?").count() == 0


def test_a_file_that_is_gone_is_told_in_one_line(visit: Visit, demo: Path) -> None:
    path = demo / "media" / "photos" / "photo_06.jpg"
    content = path.read_bytes()
    page = open_hit(visit, "photo_06.jpg", q="a dog", to="image")
    path.unlink()
    try:
        page.get_by_role("button", name="Where?").click()
        line = page.locator("#detail .places")
        wait_for(lambda: "the file is gone" in line.inner_text())
        assert page.get_by_role("button", name="Where?").get_attribute("aria-pressed") == "false"
        wait_for(lambda: bool(page.title()) and bool(visit.faults))  # the refusal is reported after the line
    finally:
        path.write_bytes(content)
    visit.faults[:] = [one for one in visit.faults if "40" not in one and "503" not in one]
