"""Links of the pages lead to files and headings that are there, as a reader of the repository sees them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PAGES = [*PROJECT.glob("*.md"), *sorted((PROJECT / "docs").glob("*.md"))]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def links(text: str) -> Iterator[str]:
    """Yield the targets of links and pictures that are not addresses."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, made as GitHub makes them."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", title)
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")
        number = 0
        while (unique := f"{anchor}-{number}" if number else anchor) in found:
            number += 1
        found.add(unique)
    return found


def broken_links(page: Path) -> list[str]:
    broken = []
    for target in links(prose(page)):
        name, _, anchor = target.partition("#")
        other = page if not name else (page.parent / name).resolve()
        if not other.exists() or (anchor and anchor not in anchors(other)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A title: of `code`\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#a-title-of-code) [b](other.md#twice-1) [c](#d) [e](no.md) [f](https://a.b/c)\n\n## d e\n"
    )
    assert broken_links(page) == ["#d", "no.md"]


def test_every_page_is_linked_from_the_start() -> None:
    start = {target.partition("#")[0] for target in links(prose(PROJECT / "docs" / "index.md"))}
    nav = set(re.findall(r"(?:- |: )([\w-]+\.md)$", (PROJECT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    assert nav == {page.name for page in (PROJECT / "docs").glob("*.md")}
    assert nav - start <= {"index.md", "ranking.md", "store-format.md", "architecture.md"}
