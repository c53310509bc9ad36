"""Merge: parts make the whole, each file once, shared vectors still shared; and what does not fit is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bindsearch as bs
from bindsearch.operations.exchange import exchange_format, vector_import
from bindsearch.storage.config import read_config, write_config
from bindsearch.storage.session import writer_lock
from bindsearch.types import Modality
from helpers.command import Run
from helpers.transfer_store import File, answers, contents, failures, files, vectors_held, write_store


def write_halves(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return a store, and two with half of its files each, so that items of one have copies in the other."""
    every = files(6)
    whole = write_store(tmp_path / "whole", every)
    first = write_store(tmp_path / "first", every[: len(every) // 2])
    return whole, first, write_store(tmp_path / "second", every[len(every) // 2 :])


@pytest.mark.parametrize("block_rows", [None, 5])
def test_two_halves_make_the_whole(tmp_path: Path, block_rows: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, first, second = write_halves(tmp_path)
    if block_rows is not None:
        for module in (vector_import, exchange_format):
            monkeypatch.setattr(module, "BLOCK_ROWS", block_rows)
    done: list[tuple[int, int]] = []
    report = bs.merge_stores(tmp_path / "merged", first, second, on_progress=lambda *counts: done.append(counts))
    n = len(contents(whole))
    assert (report.added, report.replaced, report.unchanged, report.vectors) == (30, 0, 0, n)
    assert done[-1] == (n, n)
    assert contents(tmp_path / "merged") == contents(whole)
    assert answers(tmp_path / "merged") == answers(whole)
    assert replace(read_config(tmp_path / "merged"), created="") == replace(read_config(first), created="")


def test_shared_vectors_stay_shared_within_and_across_stores(tmp_path: Path) -> None:
    first = write_store(tmp_path / "first", files(3))
    copied = [replace(file, rel_path=f"elsewhere/{file.rel_path}", copy=False) for file in files(3)[:5]]
    second = write_store(tmp_path / "second", copied[:4])
    held = vectors_held(first)
    assert held < len(contents(first))
    bs.merge_stores(tmp_path / "merged", first, second)
    assert vectors_held(tmp_path / "merged") == held
    assert len(contents(tmp_path / "merged")) == len(contents(first)) + len(contents(second))


def test_a_second_time_nothing_is_new(tmp_path: Path) -> None:
    _, first, second = write_halves(tmp_path)
    bs.merge_stores(tmp_path / "merged", first, second)
    before = contents(tmp_path / "merged"), vectors_held(tmp_path / "merged")
    report = bs.merge_stores(tmp_path / "merged", second, first)
    assert (report.added, report.replaced, report.unchanged) == (0, 0, 30)
    assert (contents(tmp_path / "merged"), vectors_held(tmp_path / "merged")) == before


@pytest.mark.parametrize("order", [("old", "new"), ("new", "old")])
def test_of_two_contents_the_newer_one_is_taken(tmp_path: Path, order: tuple[str, str]) -> None:
    old = File("a.jpg", Modality.IMAGE, "old", mtime_ns=1000)
    write_store(tmp_path / "old", [old])
    write_store(tmp_path / "new", [replace(old, content="new", mtime_ns=2000)])
    bs.merge_stores(tmp_path / "merged", *(tmp_path / name for name in order))
    assert contents(tmp_path / "merged") == contents(tmp_path / "new")


def test_the_same_content_stays_whatever_its_time(tmp_path: Path) -> None:
    file = File("a.jpg", Modality.IMAGE, "same", mtime_ns=1000)
    write_store(tmp_path / "target", [file])
    write_store(tmp_path / "source", [replace(file, mtime_ns=2000)])
    before = contents(tmp_path / "target")
    assert bs.merge_stores(tmp_path / "target", tmp_path / "source").unchanged == 1
    assert contents(tmp_path / "target") == before


def test_failures_come_along_where_the_file_is_not_known_better(tmp_path: Path) -> None:
    there = File("there.jpg", Modality.IMAGE, "there")
    write_store(tmp_path / "target", [there], [("failed here.jpg", "first reason"), ("now good.jpg", "was broken")])
    good = replace(there, rel_path="now good.jpg")
    broken = [("there.jpg", "broken"), ("failed here.jpg", "second reason"), ("new.jpg", "is empty")]
    write_store(tmp_path / "source", [good], broken)
    report = bs.merge_stores(tmp_path / "target", tmp_path / "source")
    assert failures(tmp_path / "target") == {"failed here.jpg": "first reason", "new.jpg": "is empty"}
    assert (report.added, report.failures) == (1, 1)


@pytest.mark.parametrize("order", [("outer", "inner"), ("inner", "outer")])
def test_a_file_belongs_to_the_deepest_collection_that_holds_it(tmp_path: Path, order: tuple[str, str]) -> None:
    picture = File("x/1.jpg", Modality.IMAGE, "one", root="/media")
    write_store(tmp_path / "outer", [picture, replace(picture, rel_path="2.jpg", content="two")])
    write_store(tmp_path / "inner", [replace(picture, root="/media/x", rel_path="1.jpg")])
    report = bs.merge_stores(tmp_path / "merged", *(tmp_path / name for name in order))
    assert (report.added, report.unchanged) == (2, 1)
    assert sorted(key[0] for key in contents(tmp_path / "merged")) == ["/media/2.jpg", "/media/x/1.jpg"]


def test_a_merge_that_was_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, first, second = write_halves(tmp_path)
    for module in (vector_import, exchange_format):
        monkeypatch.setattr(module, "BLOCK_ROWS", 5)

    def stop(done: int, total: int) -> None:
        if done > total * 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bs.merge_stores(tmp_path / "merged", first, second, on_progress=stop)
    assert 0 < len(contents(tmp_path / "merged")) < len(contents(whole))
    bs.merge_stores(tmp_path / "merged", first, second)
    assert contents(tmp_path / "merged") == contents(whole)
    assert answers(tmp_path / "merged") == answers(whole)


def test_sources_are_read_while_others_write_into_them(tmp_path: Path) -> None:
    _, first, second = write_halves(tmp_path)
    with writer_lock(first), writer_lock(second):
        assert bs.merge_stores(tmp_path / "merged", first, second).added == 30
    with writer_lock(tmp_path / "merged"), pytest.raises(bs.StoreLockedError, match="is being written by"):
        bs.merge_stores(tmp_path / "merged", first)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("encoder", "mini", "the encoder mini there, null here"),
        ("weights_digest", "older", "weights of digest older there, null-1 here"),
        ("encoder_options", {"crops": 3}, r"the options {'crops': 3} there, {} here"),
        ("audio_segment_s", 3.0, "audio segments in seconds 3.0 there, 10.0 here"),
    ],
)
def test_stores_of_another_space_are_refused_by_name(tmp_path: Path, field: str, value: Any, message: str) -> None:
    _, first, second = write_halves(tmp_path)
    write_config(second, replace(read_config(second), **{field: value}))
    with pytest.raises(bs.StoreError, match=f"second cannot be added to .*merged: {message}"):
        bs.merge_stores(tmp_path / "merged", first, second)
    assert not (tmp_path / "merged").exists()


def test_what_cannot_be_merged_is_said(tmp_path: Path) -> None:
    _, first, _ = write_halves(tmp_path)
    with pytest.raises(bs.UsageError, match="first is the store to merge into"):
        bs.merge_stores(first, tmp_path / "x" / ".." / "first")
    with pytest.raises(bs.UsageError, match="nothing to merge"):
        bs.merge_stores(first)
    with pytest.raises(bs.StoreNotFoundError, match="no store at"):
        bs.merge_stores(first, tmp_path / "nothing")


def test_the_command(tmp_path: Path, bindsearch_command: Run) -> None:
    whole, first, second = write_halves(tmp_path)
    merged = bindsearch_command(["merge", first, second, "--json"])
    assert merged.returncode == 0, merged.stderr
    assert json.loads(merged.stdout)["added"] == 30
    assert contents(tmp_path / "store") == contents(whole)
    plain = bindsearch_command(["merge", first, second])
    assert plain.stdout.startswith("0 added, 0 replaced, 30 kept: 0 vectors in")
    refused = bindsearch_command(["merge", tmp_path / "store"])
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_vectors_that_go_with_a_replaced_item_are_shared_by_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (vector_import, exchange_format):
        monkeypatch.setattr(module, "BLOCK_ROWS", 1)
    old = File("a.jpg", Modality.IMAGE, "old", mtime_ns=1)
    source = [replace(old, content="new", mtime_ns=2), replace(old, rel_path="b.jpg")]
    write_store(tmp_path / "target", [old])
    write_store(tmp_path / "source", source)
    bs.merge_stores(tmp_path / "target", tmp_path / "source")
    assert contents(tmp_path / "target") == contents(tmp_path / "source")
