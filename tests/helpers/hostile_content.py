"""Hostile files that are whole and hold odd things: numbers, texts, facts."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from helpers import file_bytes

MIB = 1 << 20


def arrays() -> Iterator[tuple[str, bytes]]:
    """Pickles, and numbers that are none. Motion has a rate in its sidecar, so that the numbers are looked at."""
    for name, raw in _arrays():
        yield name, raw
        if name.startswith("imu"):
            yield f"{name}.json", b'{"sample_rate_hz": 50}'


def _arrays() -> Iterator[tuple[str, bytes]]:
    pickled = np.array([{"a": 1}, None], dtype=object)
    yield "imu-pickled.npy", file_bytes.saved(pickled, pickled=True)
    out = io.BytesIO()
    np.savez(out, accelerometer=pickled, gyroscope=pickled)
    yield "imu-pickled.npz", out.getvalue()
    yield "imu-bare-pickle.npy", b"cos\nsystem\n(S'echo hostile 1>&2'\ntR."
    shape = {"depth": (48, 64), "thermal": (48, 64), "imu": (200, 6)}
    for modality, size in shape.items():
        for label, value in (("nan", np.nan), ("inf", np.inf), ("minus-inf", -np.inf), ("largest", 3e38), ("zero", 0.0),
                             ("negative", -5.0), ("least", 1e-45)):  # fmt: skip
            yield f"{modality}-{label}.npy", file_bytes.saved(np.full(size, value, np.float32))
        some = np.ones(size, np.float64)
        some[::3] = np.nan
        yield f"{modality}-holes.npy", file_bytes.saved(some)
        yield f"{modality}-text.npy", file_bytes.saved(np.full(size, "a" * 20))
        yield f"{modality}-complex.npy", file_bytes.saved(np.full(size, 1 + 2j))
        yield f"{modality}-dates.npy", file_bytes.saved(np.zeros(size, "datetime64[s]"))
        yield f"{modality}-records.npy", file_bytes.saved(np.zeros(size[0], [("a", "<f4"), ("b", "O")][:1]))
        yield f"{modality}-scalar.npy", file_bytes.saved(np.float32(1))
        yield f"{modality}-one.npy", file_bytes.saved(np.ones((1,) * len(size), np.float32))
        yield f"{modality}-line.npy", file_bytes.saved(np.ones((1, 100_000), np.float32))
        yield f"{modality}-cube.npy", file_bytes.saved(np.ones((4, 4, 4, 4), np.float32))
        yield f"{modality}-integers.npy", file_bytes.saved(np.full(size, 2**63, np.uint64))
        yield f"{modality}-fortran.npy", file_bytes.saved(np.asfortranarray(np.ones(size, ">f8")))


def tables() -> Iterator[tuple[str, bytes]]:
    head = b"ax,ay,az,gx,gy,gz\n"
    yield "imu-seven.csv", b"1,2,3,4,5,6,7\n" * 100
    yield "imu-five.csv", b"1,2,3,4,5\n" * 100
    yield "imu-ragged.csv", head + b"1,2,3,4,5,6\n1,2\n1,2,3,4,5,6,7,8,9\n" * 50
    yield "imu-words.csv", head + b"one,two,three,four,five,six\n" * 50
    yield "imu-nan.csv", head + b"nan,NaN,inf,-inf,,1e999\n" * 50
    yield "imu-head-only.csv", head
    yield "imu-one-row.csv", head + b"1,2,3,4,5,6\n"
    yield "imu-twice.csv", b"ax,ax,ax,gx,gx,gx\n" + b"1,2,3,4,5,6\n" * 50
    yield "imu-quotes.csv", head + b'"1,2,3,4,5,6\n' * 50
    yield "imu-nul.csv", head + b"1,2,3,4,5,\0\n" * 50
    yield "imu-utf16.csv", (head + b"1,2,3,4,5,6\n" * 50).decode().encode("utf-16")
    yield "imu-long-line.csv", head + b"1," * 500_000
    yield "imu-columns.csv", b",".join(b"c%d" % n for n in range(20_000)) + b"\n" + b",".join([b"1"] * 20_000)
    yield "imu-backwards.csv", b"time_s,ax,ay,az,gx,gy,gz\n" + b"".join(b"%d,1,2,3,4,5,6\n" % -n for n in range(99))
    yield "imu-still.csv", b"time_s,ax,ay,az,gx,gy,gz\n" + b"5,1,2,3,4,5,6\n" * 99
    yield "imu-years.csv", b"time_s,ax,ay,az,gx,gy,gz\n0,1,2,3,4,5,6\n1,1,2,3,4,5,6\n1e12,1,2,3,4,5,6\n"
    yield "list-deep.jsonl", b'{"path":' + b"[" * 100_000
    yield "list-outside.csv", b"path,caption\n../../../../etc/passwd,secret\n/dev/zero,secret\n" + b"a\\b,x\n"
    yield "list-nul.csv", b"path,caption\na\0b.jpg,x\n\xff\xfe.jpg,y\n"
    for name, columns in (("lists", {"ax": [[1.0]] * 9}), ("text", {"ax": ["a"] * 9}), ("none", {"ax": [None] * 9})):
        out = io.BytesIO()
        first = next(iter(columns.values()))
        parquet.write_table(pa.table(dict.fromkeys(("ax", "ay", "az", "gx", "gy", "gz"), first)), out)
        yield f"imu-{name}.parquet", out.getvalue()


def sounds() -> Iterator[tuple[str, bytes]]:
    """Sounds of nothing, of one sample, and of no numbers."""
    yield "no-sample.wav", file_bytes.wav(16_000, 1, b"")
    yield "one-sample.wav", file_bytes.wav(16_000, 1, b"\1\2")
    yield "half-sample.wav", file_bytes.wav(16_000, 1, b"\1")
    yield "silence.wav", file_bytes.wav(16_000, 1, bytes(32_000))
    for label, value in (("nan", np.nan), ("inf", np.inf), ("loud", 3e38)):
        raw = np.full(16_000, value, "<f4").tobytes()
        yield f"{label}.wav", file_bytes.wav(16_000, 1, raw, kind=3, bits=32)
    yield "unknown-code.wav", file_bytes.wav(16_000, 1, bytes(3200), kind=0x1234)
    yield "bits-0.wav", file_bytes.wav(16_000, 1, bytes(3200), bits=0)
    yield "bits-65535.wav", file_bytes.wav(16_000, 1, bytes(3200), bits=65535)
    yield "chunks.wav", file_bytes.riff(b"WAVE", b"junk\0\0\0\0" * 100_000)
    yield "own-size.wav", file_bytes.riff(b"WAVE", b"fmt \xff\xff\xff\xff")
    yield "no-frame.mp3", b"ID3\4\0\0\0\0\0\0" + bytes(5000)
    yield "noise.aac", b"\xff\xf1" + bytes(range(256)) * 20
    yield "noise.mp3", b"\xff\xfb\x90\x64" + bytes(range(256)) * 20


def pictures() -> Iterator[tuple[str, bytes]]:
    """Sizes at the edge, modes that are rare, facts that are wrong."""
    for extension in ("jpg", "png", "webp", "gif", "tif", "bmp"):
        yield f"one-pixel.{extension}", file_bytes.encoded(Image.new("RGB", (1, 1)), extension)
    yield "line.png", file_bytes.encoded(Image.new("RGB", (60_000, 1)), "png")
    yield "column.png", file_bytes.encoded(Image.new("L", (1, 60_000)), "png")
    yield "depth-one-pixel.png", file_bytes.encoded(Image.new("I;16", (1, 1)), "png")
    yield "depth-zero.png", file_bytes.encoded(Image.new("I;16", (64, 48)), "png")
    yield "thermal-flat.png", file_bytes.encoded(Image.new("L", (64, 48), 7), "png")
    for mode, extension in (("1", "png"), ("P", "png"), ("LA", "png"), ("RGBA", "png"), ("CMYK", "jpg"), ("F", "tif"),
                            ("I", "tif"), ("LAB", "tif")):  # fmt: skip
        yield f"mode-{mode.lower()}.{extension}", file_bytes.encoded(Image.new(mode, (40, 30)), extension)
    thermal = np.full((48, 64), np.nan, np.float32)
    yield "thermal-nan.tif", file_bytes.encoded(Image.fromarray(thermal), "tif")
    exif = Image.Exif()
    exif[0x0112], exif[0x0132], exif[0x010F] = 99, "9999:99:99 99:99:99", "\x1b[31mred\x07\n" * 1000
    out = io.BytesIO()
    Image.new("RGB", (40, 30)).save(out, "jpeg", exif=exif)
    yield "facts.jpg", out.getvalue()
    out = io.BytesIO()
    Image.new("RGB", (40, 30)).save(out, "jpeg", exif=b"Exif\0\0MM\0*" + b"\xff" * 60)
    yield "facts-damaged.jpg", out.getvalue()


def texts(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    yield "nuls.txt", b"a\0b\0c" * 1000
    yield "only-nuls.txt", bytes(10_000)
    yield "not-utf8.txt", b"caf\xe9 \xff\xfe\x80 " * 100
    yield "surrogates.txt", b"\xed\xa0\x80\xed\xb0\x80" * 100
    yield "random.txt", rng.randbytes(100_000)
    yield "line.txt", b"word " * 200_000
    yield "letter.txt", b"a" * 10_000_000
    yield "lines.txt", b"\n" * 1_000_000
    yield "spaces.md", b" \t\r" * 100_000
    yield "mark-only.txt", b"\xef\xbb\xbf"
    yield "utf16.txt", "two cups of tea".encode("utf-16")
    yield "utf16-odd.txt", "two cups of tea".encode("utf-16")[:-1]
    yield "utf32.txt", "two cups of tea".encode("utf-32")
    yield "right-to-left.txt", "\u202e\u2066שלום \u200f\u061cمرحبا\u2069\u202c".encode() * 50
    yield "control.txt", bytes(range(1, 32)) * 50 + b"\x1b]0;title\x07\x1b[2J\x7f"
    yield "marks.txt", ("e" + "\u0301" * 50_000).encode()
    yield "far.txt", "\U0010ffff\ufffe\U000e0001".encode() * 500
    yield "joined.md", ("👩\u200d👩\u200d👧" * 5000).encode()
    yield "fences.md", b"```\n" * 50_000
    yield "front.md", b"---\n" + b"a: &a [*a, *a]\n" * 1000 + b"---\n"


def sidecars(good: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield valid images, each with an invalid sidecar."""
    facts = {
        "deep": b"[" * 100_000,
        "deep-object": b'{"a":' * 50_000,
        "list": b"[1, 2]",
        "empty": b"",
        "nuls": bytes(100),
        "not-utf8": b'{"caption": "\xff\xfe"}',
        "surrogate": b'{"caption": "\\ud800", "columns": {"title": "\\udfff"}}',
        "large": b'{"caption": "' + b"a" * (2 * MIB) + b'"}',
        "digits": b'{"columns": {"rating": ' + b"9" * 4_000 + b"}}",
        "long-digits": b'{"columns": {"rating": ' + b"9" * 50_000 + b"}}",
        "nan": b'{"columns": {"rating": NaN}, "fx": Infinity}',
        "infinite": b'{"columns": {"rating": -1e400}}',
        "columns": json.dumps({"columns": {f"c{n}": n for n in range(5000)}}).encode(),
        "names": json.dumps({"columns": {"a b": 1, "'; drop table items; --": 2, "": 3, "item_id": 4}}).encode(),
        "values": json.dumps(
            {"columns": {"a": [1], "b": {"c": 1}, "d": "x" * 500_000, "e": "\u202e\0\x1b[2J"}}
        ).encode(),
        "twice": b'{"caption": "a", "caption": "b", "columns": {"a": 1, "A": 2, "a": 3}}',
        "unknown": b'{"\\u001b[31m": 1}',
        "kinds": b'{"caption": 5, "axes": "x", "units": [1], "sample_rate_hz": "fast"}',
        "control": b'{"caption": "\\u0000\\u001b[2J\\u202e\\n", "columns": {"camera": "\\u0000", "title": "\\n"}}',
        "dates": b'{"columns": {"taken": "99999-99-99T99:99:99", "latitude": 1e9, "longitude": "nan"}}',
    }
    for label, raw in facts.items():
        yield f"{label}.jpg", good["image.jpg"] + label.encode()  # no two are copies of each other
        yield f"{label}.jpg.json", raw
    yield "lonely.json", b"{}"
