"""A page in the system's Chromium, watched for what a page must not do."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request

HOSTILE_NAMES = (
    "<script>alert(1)<script>.txt",
    "<img src=x onerror=alert(1)>.txt",
    "quote\" ' & amp.txt",
    "new\nline.txt",
    "rtl \u202etxt.exe.txt",
    "esc \x1b[31mred.txt",
    f"{'a' * 251}.txt",
)
"""Names of files that try to be something else."""

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TIMEOUT_MS = 20_000
ARGUMENTS = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--disable-dev-shm-usage")
WATCH_POLICY = """
addEventListener("securitypolicyviolation", (event) =>
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""
DROP = """([name, type, text]) => {
    const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type }));
    for (const kind of ["dragenter", "dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }
}"""


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Start Chromium; the test is skipped if it or Playwright is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no browser is installed: none of {', '.join(PROGRAMS)}")
    arguments = [*ARGUMENTS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Visit:
    """A page, and what went wrong in it."""

    page: Page
    origin: str
    faults: list[str] = field(default_factory=list)

    def go(self, path: str = "/", **query: str | list[str]) -> Page:
        """Open an address of the server and wait for its first answer."""
        self.page.goto(f"{self.origin}{path}{'?' if query else ''}{urlencode(query, doseq=True)}")
        self.page.locator("#store").filter(has_text="generation").wait_for()
        if "q" in query or "term" in query:
            self.wait()
        return self.page

    def wait(self) -> None:
        """Wait until nothing is being searched for and the number of matches is said."""
        self.page.locator("#results:not([aria-busy=true])").wait_for(state="attached")
        self.until("document.querySelector('#count').textContent !== ''")

    def until(self, expression: str) -> None:
        """Wait until an expression of JavaScript is true.

        Playwright's own `wait_for_function` evaluates it in the page, which the page's policy refuses.
        """
        end_s = time.monotonic() + TIMEOUT_MS / 1000
        while not self.page.evaluate(expression):
            assert time.monotonic() < end_s, f"never true: {expression}"
            self.page.wait_for_timeout(30)

    def names(self) -> list[str]:
        """Names of the files shown, in order."""
        return self.page.locator(".grid:not([hidden]) .card .name").all_inner_texts()

    def drop(self, path: Path, media_type: str) -> None:
        """Drop a file on the page."""
        self.page.evaluate(DROP, [path.name, media_type, base64.b64encode(path.read_bytes()).decode()])


Open = Callable[..., Visit]
"""Opens a page, given options of a browser's context."""


@contextlib.contextmanager
def visiting(browser: Browser, origin: str, **options: object) -> Iterator[Visit]:
    """Open a new page; afterwards, it must have asked no other server, and have reported nothing on its console."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})  # type: ignore[arg-type]
    context.set_default_timeout(TIMEOUT_MS)
    context.add_init_script(WATCH_POLICY)
    visit = Visit(context.new_page(), origin)
    watch(visit)
    yield visit
    context.close()
    assert visit.faults == []


def watch(visit: Visit) -> None:
    """Note errors of scripts, messages of the console, dialogs, and requests to others."""
    allowed = (f"{visit.origin}/", "data:", f"blob:{visit.origin}/")

    def note_message(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            visit.faults.append(message.text)

    def note_dialog(dialog: Dialog) -> None:
        visit.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def note_request(request: Request) -> None:
        if not request.url.startswith(allowed):
            visit.faults.append(f"request: {request.url}")

    visit.page.on("console", note_message)
    visit.page.on("dialog", note_dialog)
    visit.page.on("request", note_request)
    visit.page.on("pageerror", lambda error: visit.faults.append(f"error: {error}"))


def serious_faults(page: Page, rules: Mapping[str, Mapping[str, bool]] | None = None) -> list[str]:
    """Return what axe-core finds serious or critical, with the elements."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    options = {"resultTypes": ["violations"], "rules": dict(rules or {})}
    found = axe.Axe().run(page, options=options).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
