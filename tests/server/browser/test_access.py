"""The page for everyone: keyboard, screen readers, phones, dark and light, hostile names, a store that changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.browser import HOSTILE_NAMES, Open, Visit, serious_faults
from helpers.stores import connect

VIEWS: dict[str, dict[str, str | list[str]]] = {
    "empty": {},
    "results": {"q": "rain", "weak": "1"},
    "composed": {"q": "rain", "term": ["text:-0.5:coffee", "like::1"], "w": "0.5", "where": "size_bytes > 1"},
    "nonsense": {"q": "zxqv brumpf"},
    "detail": {"q": "rain"},
    "places": {"q": "a cat", "to": "image", "weak": "1"},
    "spans": {"q": "rain", "to": "audio", "weak": "1"},
    "map": {"view": "map"},
}


def open_view(visit: Visit, view: str) -> None:
    page = visit.go("/", **VIEWS[view])
    if view in ("detail", "places", "spans"):
        page.locator(".card").first.click()
        page.locator("#detail .stage").wait_for()
    if view in ("places", "spans"):
        page.get_by_role("button", name="Where?").click()
        page.locator("button[aria-pressed=true]", has_text="Where?").wait_for()
    if view == "map":
        page.locator(".legend .kind").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_no_serious_fault(open_page: Open, view: str, scheme: str) -> None:
    visit = open_page(color_scheme=scheme)
    open_view(visit, view)
    assert serious_faults(visit.page) == []


def test_axe_finds_faults(visit: Visit) -> None:
    page = visit.go()
    page.evaluate("document.querySelector('#search-form label').remove()")
    page.evaluate("document.querySelector('#search').removeAttribute('placeholder')")
    assert [one for one in serious_faults(page) if one.startswith("label:")]


@pytest.mark.parametrize("view", VIEWS)
def test_a_phone_needs_no_scrolling_sideways(open_page: Open, view: str) -> None:
    visit = open_page(viewport={"width": 360, "height": 740}, has_touch=True)
    open_view(visit, view)
    page = visit.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    inside = "[...document.querySelectorAll('button, input, .card, .stage, .command')]"
    visible = f"{inside}.filter((one) => one.offsetParent && !one.closest('.hidden, .like'))"
    outside = f"{visible}.filter((one) => one.getBoundingClientRect().right > 361).map((one) => one.outerHTML)"
    assert page.evaluate(outside) == []


def test_keyboard_alone(visit: Visit) -> None:
    page = visit.go()
    page.locator("#search").blur()
    page.keyboard.press("/")
    page.keyboard.type("rain")
    page.locator(".card").first.wait_for()
    visit.wait()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    second = visit.names()[1]
    assert page.evaluate("document.activeElement.querySelector('.name').textContent") == second
    page.keyboard.press("Enter")
    page.locator("#detail .stage").wait_for()
    assert page.locator("#detail-name").inner_text() == second
    page.keyboard.press("Escape")
    page.locator("#detail").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.querySelector('.name').textContent") == second
    page.keyboard.press("l")
    page.locator(".term").wait_for()
    visit.wait()
    assert page.evaluate("document.activeElement === document.querySelector('.card')")
    assert second in page.locator(".term").inner_text()
    assert second not in visit.names()
    page.keyboard.press("w")
    page.locator("#weak-grid").wait_for()
    page.keyboard.press("m")
    page.locator(".legend .kind").first.wait_for()
    page.keyboard.press("m")
    page.keyboard.press("?")
    page.locator("#help").wait_for()
    page.keyboard.press("Escape")
    page.locator("#help").wait_for(state="hidden")


def test_arrows_move_in_rows_and_columns(visit: Visit) -> None:
    page = visit.go(q="rain", weak="1")
    focused = "[...document.querySelectorAll('.card')].indexOf(document.activeElement)"
    page.locator("#weak-grid .card").first.focus()
    first = page.evaluate(focused)
    box = "document.activeElement.getBoundingClientRect()"
    place = f"JSON.stringify([{box}.left, {box}.top + scrollY])"
    before = page.evaluate(place)
    page.keyboard.press("ArrowDown")
    below = page.evaluate(place)
    assert page.evaluate(focused) > first + 1
    assert below.split(",")[0] == before.split(",")[0]
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused) == first
    page.keyboard.press("End")
    assert page.evaluate(focused) == page.locator(".card").count() - 1


def test_screen_readers_hear_the_number_of_results_and_what_a_card_is(visit: Visit) -> None:
    page = visit.go(q="rain")
    assert page.locator("#count").get_attribute("role") == "status"
    assert page.locator("#count").inner_text().startswith(f"{page.locator('#grid .card').count()} match")
    label = page.locator("#grid .card", has_text="sound_02.wav").get_attribute("aria-label")
    assert label is not None
    assert label.startswith("sound_02.wav, Audio, strong match, 9")


def test_colours_follow_the_system_and_the_button(open_page: Open) -> None:
    page = open_page(color_scheme="dark").go()
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.click("#theme")
    light = page.evaluate(background)
    assert light != dark
    page.reload()
    assert page.evaluate(background) == light
    page.click("#theme")
    assert page.evaluate(background) == dark


def test_hostile_names_are_text(hostile_visit: Visit) -> None:
    page = hostile_visit.go(q="a dog barks loudly", weak="1")
    texts = "".join(page.locator(".card .name").all_inner_texts())
    for name in HOSTILE_NAMES:
        shown = name.replace("\n", "\u240a").replace("\x1b", "\u241b").replace("\u202e", "\u00bf")
        assert shown in texts
    assert (
        page.evaluate("document.querySelectorAll('.card script, .card b, .card img[src=x], .card svg[onload]').length")
        == 0
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for number in range(page.locator(".card").count()):
        page.locator(".card").nth(number).click()
        page.locator("#detail .stage").wait_for()
        assert page.locator("#detail :is(script, b, img[src=x], svg[onload])").count() == 0
        assert page.evaluate(
            "document.querySelector('#detail').scrollWidth <= document.querySelector('#detail').clientWidth"
        )
        page.keyboard.press("Escape")
        page.locator("#detail").wait_for(state="hidden")


def test_a_store_that_changes_is_noticed(hostile_visit: Visit, hostile: Path) -> None:
    page = hostile_visit.go(q="a cat sleeps on the sofa", weak="1")
    assert page.locator("#refresh").is_hidden()
    (hostile / "media" / "cat.txt").write_text("A cat sleeps on the sofa.")
    connect(hostile / "store").index(hostile / "media")
    page.locator("#refresh").wait_for()
    page.click("#refresh")
    page.locator(".card", has_text="cat.txt").wait_for()
    assert page.locator("#refresh").is_hidden()
