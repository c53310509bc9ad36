"""Take the pictures of the search page that the documentation shows, from the media of the examples.

    python docs/screenshots.py [FOLDER]

FOLDER, by default a folder for temporary files, gets the media and their store; the pictures are written to
docs/pictures/. It needs the extras [serve] and [demo], Playwright, and Chromium on the PATH.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

DOCS = Path(__file__).parent
MAKE_MEDIA = DOCS.parent / "examples" / "make_media.py"
MAX_BYTES = 150_000
COLOURS = (256, 192, 128, 96, 64)
"""Numbers of colours of a picture, tried until it is small enough."""
OWN_COLOURS = """(() => {
    const style = getComputedStyle(document.documentElement);
    const names = ["strong", "likely", "weak", "bad", "accent", "accent-soft", "text", "muted", "surface", "page"];
    const kinds = ["text", "image", "video", "audio", "depth", "thermal", "imu"].map((one) => `kind-${one}`);
    const hex = (name) => style.getPropertyValue(`--${name}`).trim().slice(1);
    return [...names, ...kinds].flatMap((name) => [0, 2, 4].map((at) => parseInt(hex(name).slice(at, at + 2), 16)));
})()"""
"""Script that returns the colours of the page's small signs, which a palette of few colours would lose."""

NONSENSE = "zxqv brumpf"
WIDE = (1280, 800)
PHONE = (360, 740)


def main() -> int:
    """Make the media, index them, start a server and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(tempfile.gettempdir()) / "demo")
    folder = parser.parse_args().folder.absolute()
    prepare(folder)
    with serving(folder) as origin, sync_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        take_pictures(browser, origin, folder / "queries")
        take_gallery(browser, folder)
        browser.close()
    return 0


def prepare(folder: Path) -> None:
    """Make the media, and a new store of them."""
    shutil.rmtree(folder / "store", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, str(MAKE_MEDIA), str(folder)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([command(), "index", "media", "--store", "store"], cwd=folder, check=True)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run a server of the store, and yield its address."""
    environment = {**os.environ, "BINDSEARCH_STORE": str(folder / "store")}  # so that command lines need no --store
    server = subprocess.Popen(
        [command(), "serve", "--port", "0", "--no-socket"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        if " at http" not in line:
            raise SystemExit(f"the server did not start: {line}{server.communicate()[1]}")
        yield line.rpartition(" at ")[2].strip().rstrip("/")
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=30)


def command() -> str:
    """Return the path of the command bindsearch."""
    return str(Path(sys.executable).with_name("bindsearch"))


def take_pictures(browser: Browser, origin: str, queries: Path) -> None:
    """Take all pictures."""
    with opened(browser, f"{origin}/?{urlencode({'q': 'rain', 'weak': 1})}") as page:
        save(page, "page")
    with opened(browser, f"{origin}/?{urlencode({'q': 'a dog barking', 'weak': 1})}", color_scheme="dark") as page:
        save(page, "dark")
    with opened(browser, f"{origin}/?{urlencode({'to': 'text,image,video', 'weak': 1})}") as page:
        page.set_input_files("#file", [queries / "cup.jpg", queries / "rain.wav"])
        page.locator(".term").nth(1).wait_for()
        settle(page)
        page.reload()  # the terms are encoded now
        settle(page)
        save(page, "composed")
    with opened(browser, f"{origin}/?{urlencode({'q': 'rain', 'term': 'text:0.3:coffee', 'w': 0.7})}") as page:
        open_hit(page, "sound_02.wav")
        save(page, "sound")
    with opened(browser, f"{origin}/?{urlencode({'q': 'a space shuttle', 'to': 'image', 'weak': 1})}") as page:
        open_hit(page, "photo_03.jpg")
        page.get_by_role("button", name="Where?").click()
        page.locator(".boxes .heat").wait_for()
        settle(page)
        save(page, "where")
    with opened(browser, f"{origin}/?{urlencode({'q': 'a person walking'})}") as page:
        open_hit(page, "recording_01.csv")
        save(page, "motion")
    with opened(browser, f"{origin}/?view=map") as page:
        page.locator(".legend .kind").first.wait_for()
        page.locator(".plot canvas").focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
            page.keyboard.press(key)
        settle(page)
        save(page, "map")
    with opened(browser, f"{origin}/?{urlencode({'q': NONSENSE})}") as page:
        save(page, "nonsense")
    phone = {"viewport": size(PHONE), "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    query = {"q": "coffee", "term": "text::rain", "weak": 1}
    with opened(browser, f"{origin}/?{urlencode(query)}", **phone) as page:
        save(page, "phone")


def take_gallery(browser: Browser, folder: Path) -> None:
    """Take the pictures of answers as one HTML file: one with hits, and one in which nothing stands out."""
    for name, query in (("gallery", "rain"), ("gallery_nonsense", NONSENSE)):
        with tempfile.TemporaryDirectory() as made:
            page_file = Path(made) / "answer.html"
            options = ["--store", "store", "--no-server", "--html", str(page_file)]
            subprocess.run([command(), "search", query, *options], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            context = browser.new_context(viewport=size(WIDE))  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(page_file.as_uri())
            page.wait_for_timeout(1000)
            save(page, name)
            context.close()


@contextlib.contextmanager
def opened(browser: Browser, url: str, **options: object) -> Iterator[Page]:
    """Open an address twice, so that what is measured is a server at work, not one that loads its encoder."""
    given: dict[str, object] = {"viewport": size(WIDE), "reduced_motion": "reduce", **options}
    context = browser.new_context(**given)  # type: ignore[arg-type]
    page = context.new_page()
    for _ in range(2):
        page.goto(url)
        page.locator("#store").filter(has_text="generation").wait_for()
        settle(page)
    yield page
    context.close()


def size(pair: tuple[int, int]) -> Mapping[str, int]:
    """Return a size as Playwright takes it."""
    return {"width": pair[0], "height": pair[1]}


def settle(page: Page) -> None:
    """Wait until pictures are there."""
    page.wait_for_load_state("domcontentloaded")
    page.locator("#results:not([aria-busy=true])").wait_for(state="attached")
    page.wait_for_timeout(1500)
    pending = "[...document.images].some((one) => !one.complete && one.getBoundingClientRect().top < innerHeight)"
    for _ in range(100):
        if not page.evaluate(pending):
            return
        page.wait_for_timeout(100)


def open_hit(page: Page, name: str) -> None:
    """Open the detail view of a hit."""
    page.locator(".card", has_text=name).first.click()
    page.locator("#detail .stage").wait_for()
    settle(page)


def save(page: Page, name: str) -> None:
    """Write a picture with few colours, so that it is small."""
    page.mouse.move(0, 0)
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    own = page.evaluate(OWN_COLOURS) if page.url.startswith("http") else []
    for colours in COLOURS:
        out = io.BytesIO()
        palette = Image.new("P", (1, 1))
        found = taken.quantize(colours - len(own) // 3, dither=Image.Dither.NONE).getpalette() or []
        palette.putpalette([*own, *found])
        taken.quantize(palette=palette, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
        if out.tell() <= MAX_BYTES:
            break
    (DOCS / "pictures").mkdir(exist_ok=True)
    (DOCS / "pictures" / f"{name}.png").write_bytes(out.getvalue())


if __name__ == "__main__":
    sys.exit(main())
