"""Thumbnails in the terminal: the codes are decoded again, and terminals are pseudo-terminals."""

from __future__ import annotations

import os
import re
import threading
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from bindsearch.cli.aliases import OPTIONAL_VALUES, _with_values
from bindsearch.cli.hits.pictures import (
    CHUNK_CHARACTERS,
    Graphics,
    ask_terminal,
    asked_graphics,
    half_blocks,
    iterm,
    kitty,
    known_graphics,
    picture_lines,
    sixel,
)
from helpers.command import Run
from helpers.media_files import write_every_modality
from helpers.stores import connect


def decode_sixel(code: str) -> NDArray[np.uint8]:
    """Return the pixels (height, width, 3) of a sixel picture."""
    head = re.match(r'\x1bP0;1;0q"1;1;(\d+);(\d+)', code)
    assert head is not None
    assert code.endswith("\x1b\\")
    width, height = int(head[1]), int(head[2])
    pixels = np.zeros((height + 6, width, 3), np.uint8)
    done = np.zeros((height + 6, width), bool)
    colours: dict[int, tuple[int, ...]] = {}
    row = column = colour = 0
    body = code[head.end() : -2]
    tokens = re.findall(r"#(\d+)((?:;\d+)*)|!(\d+)([?-~])|([?-~])|([$-])", body)
    assert re.sub(r"#\d+(?:;\d+)*|!\d+[?-~]|[?-~]|[$-]", "", body) == ""
    for number, values, count, repeated, single, move in tokens:
        if number:
            colour = int(number)
            if values:
                kind, *percent = map(int, values[1:].split(";"))
                assert kind == 2
                colours[colour] = tuple(round(value * 2.55) for value in percent)
        elif move == "$":
            column = 0
        elif move == "-":
            row, column = row + 6, 0
        else:
            bits = ord(repeated or single) - 63
            stop = column + (int(count) if count else 1)
            for bit in range(6):
                if bits >> bit & 1:
                    assert not done[row + bit, column:stop].any()
                    done[row + bit, column:stop] = True
                    pixels[row + bit, column:stop] = colours[colour]
            column = stop
    assert done[:height].all()
    assert not done[height:].any()
    return pixels[:height]


def decode_kitty(code: str) -> tuple[dict[str, str], Image.Image]:
    """Return the keys of the first code, and the picture."""
    codes = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", code)
    keys = [dict(pair.split("=") for pair in head.split(",")) for head, _ in codes]
    assert [one["m"] for one in keys] == ["1"] * (len(codes) - 1) + ["0"]
    assert all(len(data) <= CHUNK_CHARACTERS for _, data in codes)
    assert "".join(f"\x1b_G{head};{data}\x1b\\" for head, data in codes) == code
    return keys[0], Image.open(BytesIO(b64decode("".join(data for _, data in codes))))


def noise(seed: int, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 40), st.integers(1, 8), st.integers(0, 99))
def test_sixels_are_the_picture(height: int, width: int, colours: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    palette = rng.integers(0, 256, (colours, 3), np.uint8)
    pixels = palette[rng.integers(0, colours, (height, width))]
    decoded = decode_sixel(sixel(Image.fromarray(pixels)))
    assert np.abs(decoded.astype(int) - pixels).max() <= 3  # percent of 255, rounded twice


def test_runs_of_sixels_are_short_and_many_colours_are_reduced() -> None:
    plain = sixel(Image.new("RGB", (1000, 600), (10, 200, 30)))
    assert len(plain) < 3000
    assert (decode_sixel(plain) == decode_sixel(plain)[0, 0]).all()
    decoded = decode_sixel(sixel(noise(1, (60, 80))))
    assert 16 < len(np.unique(decoded.reshape(-1, 3), axis=0)) <= 256


def test_kitty_gets_the_png_in_chunks() -> None:
    picture = noise(2, (100, 90))
    (line,) = picture_lines(picture, Graphics.KITTY, (32, 12))
    keys, decoded = decode_kitty(line)
    assert keys == {"a": "T", "f": "100", "q": "2", "c": "32", "r": "12", "m": "1"}
    assert decoded.tobytes() == picture.tobytes()
    assert kitty(b"x", (1, 2)) == "\x1b_Ga=T,f=100,q=2,c=1,r=2,m=0;eA==\x1b\\"


def test_iterm_gets_the_png() -> None:
    code = iterm(b"\x89PNG", (3, 4))
    assert code == "\x1b]1337;File=inline=1;size=4;width=3;height=4:iVBORw==\x07"


def test_half_blocks_are_two_pixels_a_character() -> None:
    picture = Image.fromarray(np.array([[[1, 2, 3]] * 2, [[4, 5, 6]] * 2, [[7, 8, 9], [0, 0, 0]]], np.uint8))
    assert half_blocks(picture) == [
        "\x1b[38;2;1;2;3;48;2;4;5;6m▀▀\x1b[0m",
        "\x1b[38;2;7;8;9;49m▀\x1b[38;2;0;0;0;49m▀\x1b[0m",
    ]


def test_terminals_are_known_by_their_variables() -> None:
    for environ, wanted in [
        ({"TERM": "xterm-kitty"}, Graphics.KITTY),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, Graphics.KITTY),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, Graphics.ITERM),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "dumb", "KITTY_WINDOW_ID": "1"}, Graphics.BLOCKS),
    ]:
        assert known_graphics(environ) is wanted, environ


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        (b"\x1b_Gi=31;OK\x1b\\\x1b[?62;c", Graphics.KITTY),
        (b"\x1b[?62;4;22c", Graphics.SIXEL),
        (b"\x1b[?4;6c", Graphics.BLOCKS),  # a VT132, not the attribute 4
        (b"\x1b[?64;1;42c", Graphics.BLOCKS),
        (b"", Graphics.BLOCKS),
    ],
)
def test_a_terminal_is_asked(reply: bytes, wanted: Graphics, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pseudo-terminal replies in two parts; its settings are as before afterwards, and no reply is left."""
    termios = pytest.importorskip("termios")
    terminal, program = os.openpty()
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp())  # it is not the terminal of this process
    before = termios.tcgetattr(program)

    def answer() -> None:
        asked = b""
        while not asked.endswith(b"\x1b[c"):
            asked += os.read(terminal, 100)
        os.write(terminal, reply[:3])
        os.write(terminal, reply[3:])

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        limit_s = 10.0 if reply else 0.05
        assert asked_graphics(lambda question: ask_terminal(program, question, limit_s)) is wanted
        assert termios.tcgetattr(program) == before
    finally:
        thread.join()
        os.close(terminal)
        os.close(program)


def test_a_process_in_the_background_asks_nothing() -> None:
    terminal, program = os.openpty()
    try:
        assert ask_terminal(program, b"\x1b[c", 10.0) == b""
    finally:
        os.close(terminal)
        os.close(program)


def test_options_may_have_no_value() -> None:
    for line, filled in [
        ("dog --open", "dog --open=1"),
        ("--open dog", "--open=1 dog"),
        ("--open 3 dog", "--open 3 dog"),
        ("--open=2 --preview 3", "--open=2 --preview=auto 3"),
        ("--preview=sixel -- --open", "--preview=sixel -- --open"),
    ]:
        assert _with_values(line.split(), OPTIONAL_VALUES) == filled.split()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    write_every_modality(folder, copies=1)
    path = tmp_path_factory.mktemp("store") / "store"
    with connect(path, encoder="null") as opened:
        opened.index(folder)
    return path


def test_each_kind_has_a_thumbnail_and_a_lost_file_a_reason(store: Path, bindsearch_command: Run) -> None:
    line: list[str | Path] = ["search", "a dog", "--flat", "-k", "50", "--store", store, "--preview=kitty"]
    done = bindsearch_command(line)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    heads = [place for place, line in enumerate(lines) if re.match(r" *\d+  (weak|likely|strong|exact)", line)]
    modalities = set()
    for place, following in zip(heads, [*heads[1:], len(lines)], strict=True):
        modality = lines[place].split()[3]
        modalities.add(modality)
        codes = [line for line in lines[place + 1 : following] if "\x1b_G" in line]
        assert len(codes) == (modality != "text"), lines[place]
        for code in codes:
            keys, picture = decode_kitty(code.strip())
            assert int(keys["c"]) <= 32
            assert int(keys["r"]) <= 12
            assert max(picture.size) <= 320
    assert modalities == {"text", "image", "video", "audio", "depth", "thermal", "imu"}
    assert any((store / "cache" / "pictures").rglob("*"))


def test_a_file_that_is_gone_has_no_picture(tmp_path: Path, bindsearch_command: Run) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    noise(3, (64, 64)).save(folder / "a\x1b[31m.png")
    with connect(tmp_path / "store", encoder="null") as opened:
        opened.index(folder)
    (folder / "a\x1b[31m.png").unlink()
    done = bindsearch_command(["search", "a dog", "--store", tmp_path / "store", "--preview=blocks"])
    assert "     (no picture: the file is gone: it was deleted or moved" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preview"], "--preview shows pictures in a terminal: elsewhere give a form, such as --preview=blocks"),
        (["--preview=sixl"], "--preview='sixl': did you mean 'sixel'? choose from auto, kitty, iterm, sixel, blocks"),
        (["--preview=sixel", "--json"], "--preview and --json exclude each other: choose one"),
    ],
)
def test_wrong_use_is_one_line(store: Path, bindsearch_command: Run, arguments: list[str], message: str) -> None:
    done = bindsearch_command(["search", "a dog", "--store", store, *arguments])
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"bindsearch: {message}\n")
