"""A name with an accent is one name, however it is composed: as macOS writes it, and as people type it."""

from __future__ import annotations

import unicodedata
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bindsearch as bs
from bindsearch.arguments import existing_form, name_forms
from helpers.command import run_command
from helpers.stores import connect

NAME = "Caf\u00e9 \u00dcbung"


def form(text: str, kind: str) -> str:
    return unicodedata.normalize("NFC" if kind == "NFC" else "NFD", text)


@pytest.mark.parametrize(("stored", "typed"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFC", "NFC")])
def test_filters_queries_and_forget_find_a_name_in_any_form(tmp_path: Path, stored: str, typed: str) -> None:
    root = tmp_path / "media"
    folder = root / form(NAME, stored)
    folder.mkdir(parents=True)
    (folder / form("\u00e4.txt", stored)).write_text("words of a file")
    (root / "b.txt").write_text("other words")
    with zipfile.ZipFile(root / "z.zip", "w") as archive:
        archive.writestr(form("\u00f6.txt", stored), "words of a member")
    given_folder, given_file = root / form(NAME, typed), root / form(NAME, typed) / form("\u00e4.txt", typed)
    member = root / "z.zip" / form("\u00f6.txt", typed)
    with connect(tmp_path / "store", encoder="null") as store:
        assert store.index(root).added == 3
        inside = bs.make_filter(folders=given_folder)
        assert len(store.search("words", filter=inside)) == 1
        assert len(store.search("words", filter=f"path like '%{form(NAME, typed)}%'")) == 1
        assert len(store.search("words", filter=f"name = '{member.name}'")) == 1
        assert len(store.search("words", filter=f"not path like '%{form(NAME, typed)}%'")) >= 2
        assert len(store.search(f"like:{given_file}")) > 0
        assert len(store.search(f"like:{member}")) > 0
        assert len(store.search(str(given_file))) > 0
        assert store.index(given_folder).unchanged == 1
    arguments = ["--store", str(tmp_path / "store")]
    assert run_command(["show", str(given_file), *arguments]).returncode == 0
    with connect(tmp_path / "store", encoder="null") as store:
        assert store.forget(member) == 1
        assert store.forget(given_folder) == 1
        assert store.status().items == {"text": 1}


@given(st.text(max_size=20))
def test_forms_are_the_text_first(text: str) -> None:
    forms = name_forms(text)
    assert forms[0] == text
    assert len({unicodedata.normalize("NFC", one) for one in forms}) == 1
    assert len(forms) == len({*forms})


def test_each_part_of_a_path_may_have_another_form(tmp_path: Path) -> None:
    inner = tmp_path / form("\u00e4", "NFD") / form("\u00f6", "NFC") / form("\u00fc", "NFD")
    inner.mkdir(parents=True)
    typed = f"{tmp_path}/\u00e4/{form(chr(0xF6), 'NFD')}/\u00fc"
    assert existing_form(typed) == str(inner)
    assert existing_form(f"{typed}/nothing") == f"{typed}/nothing"
    assert existing_form(str(inner)) == str(inner)
