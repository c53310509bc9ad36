"""Write a corpus of damaged and hostile files: PYTHONPATH=tests python -m helpers.hostile_files DIR [--seed N].

Cut, altered and misnamed files of every format that is read; headers that promise the impossible, bombs, odd numbers,
odd texts, odd names, and what is no file at all. Nothing here may end, hang or swell whoever indexes it.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import random
import socket
import struct
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from helpers import file_bytes as make
from helpers import heic_file, hostile_content, media_files

HERE = Path(__file__).parent
MIB = 1 << 20


def make_hostile(folder: Path, seed: int = 0) -> list[Path]:
    """Write the corpus into `folder`, the same for the same seed; what was made: files, folders, links and pipes."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        good = originals(Path(place))
    made: list[Path] = []
    families = (
        ("cut", cut(good)),
        ("flipped", flipped(good, random.Random(seed))),
        ("misnamed", misnamed(good)),
        ("empty", ((name, b"") for name in good)),
        ("headers", headers(good)),
        ("bombs", bombs()),
        ("arrays", hostile_content.arrays()),
        ("tables", hostile_content.tables()),
        ("sounds", hostile_content.sounds()),
        ("pictures", hostile_content.pictures()),
        ("texts", hostile_content.texts(random.Random(seed))),
        ("sidecars", hostile_content.sidecars(good)),
        ("archives", archives(good)),
        ("names", names(good)),
    )
    for family, files in families:
        (folder / family).mkdir(exist_ok=True)
        for name, content in files:
            path = folder / family / name
            path.write_bytes(content)
            made.append(path)
    return made + list(specials(folder / "specials", good["image.jpg"]))


def originals(folder: Path) -> dict[str, bytes]:
    """Small good files of every format, by name."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    wide = noise[:, :, 0].astype(np.uint16) * 20
    for extension in ("jpg", "png", "webp", "gif", "tif", "bmp", "avif"):
        media_files.write_picture(folder / f"image.{extension}", noise)
    frames = [Image.fromarray(np.roll(noise, 9 * n, 0)) for n in range(4)]
    for extension in ("gif", "webp", "png"):
        frames[0].save(folder / f"moving.{extension}", save_all=True, append_images=frames[1:], duration=300, loop=0)
    for name in ("depth.png", "depth.tif", "thermal.tiff"):
        media_files.write_depth(folder / name, wide)
    media_files.write_picture(folder / "thermal.png", noise[:, :, 0])
    np.save(folder / "depth.npy", wide.astype(np.float32))
    np.savez_compressed(folder / "depth.npz", depth=wide)
    np.save(folder / "thermal.npy", wide.astype(np.float32))
    for extension in ("wav", "flac", "ogg", "mp3", "aiff", "caf", "au", "m4a", "aac"):
        media_files.write_sound(folder / f"sound.{extension}", media_files.tone(1.0))
    media_files.write_sound(folder / "sound.opus", media_files.tone(1.0, 48_000), 48_000)
    for extension, codec in (("mp4", "libx264"), ("mov", "mpeg4"), ("mkv", "libx264"), ("webm", "libvpx-vp9"),
                             ("avi", "mpeg4")):  # fmt: skip
        media_files.write_video(folder / f"video.{extension}", 1.0, codec=codec, sound=media_files.tone(1.0, 48_000))
    motion = media_files.motion(3.0)
    media_files.write_motion_csv(folder / "imu.csv", motion)
    np.save(folder / "imu.npy", motion)
    np.savez_compressed(folder / "imu.npz", accelerometer=motion[:, :3], gyroscope=motion[:, 3:])
    parquet.write_table(pa.table(dict(zip(("ax", "ay", "az", "gx", "gy", "gz"), motion.T, strict=True))),
                        folder / "imu.parquet")  # fmt: skip
    for extension in ("txt", "md"):
        (folder / f"text.{extension}").write_text("A cat sat on the mat. A dog ran!\n\n" * 20)
    if importlib.util.find_spec("pi_heif") is not None:
        heic_file.write_heic(folder / "image.heic")
    good = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    for name, kind in (("video.mkv", "matroska"), ("video.webm", "webm"), ("sound.ogg", "ogg"), ("sound.opus", "ogg")):
        good[name] = without_chance(good[name], kind)
    members = {"a/image.jpg": good["image.jpg"], "b.txt": b"two cups of tea", "sound.wav": good["sound.wav"]}
    good["archive.zip"] = make.zip_of(members)
    good["archive.tar"] = make.tar_of(members)
    good["archive.tar.gz"] = make.gzipped(good["archive.tar"])
    good["list.csv"] = b"path,caption,rating\nimage.jpg,two cups,4\nnowhere.jpg,a dog,1\n"
    return good


def without_chance(raw: bytes, kind: str) -> bytes:
    """Return the same streams in a container without random numbers."""
    import av

    out = io.BytesIO()
    with (
        av.open(io.BytesIO(raw), "r") as source,
        av.open(out, "w", format=kind, container_options={"fflags": "+bitexact"}) as target,
    ):
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return out.getvalue()


def cut(good: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    for name, raw in good.items():
        for label, size in (("1", 1), ("16", 16), ("tenth", len(raw) // 10), ("half", len(raw) // 2),
                            ("last", len(raw) - 1)):  # fmt: skip
            yield f"{label}-{name}", raw[:size]


def flipped(good: dict[str, bytes], rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield copies of files with flipped bits: one near the start, then several anywhere."""
    for name, raw in good.items():
        for label, flips, end in (("head", 1, min(64, len(raw))), ("few", 4, len(raw)), ("many", 200, len(raw))):
            out = bytearray(raw)
            for _ in range(flips):
                out[rng.randrange(end)] ^= 1 << rng.randrange(8)
            yield f"{label}-{name}", bytes(out)


def misnamed(good: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Every format under the name of another one."""
    every = list(good)
    for place, (name, raw) in enumerate(good.items()):
        other = every[(place + 11) % len(every)]
        yield f"{name.replace('.', '_')}.{other.split('.', 1)[1]}", raw


def headers(good: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Sizes that nobody has memory for, counts that are not there, rates of nothing."""
    most = (1 << 31) - 1
    yield "huge.png", make.png(most, most, 8, 2, zlib.compress(bytes(1000)))
    yield "no-pixel.png", make.png(0, 0, 8, 2, zlib.compress(b""))
    yield "huge.bmp", b"BM" + struct.pack("<IIIIiiHHIIiiII", 1000, 0, 54, 40, most, most, 1, 24, 0, 0, 0, 0, 0, 0)
    yield "upside.bmp", b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, 4, -most, 1, 24, 0, 0, 0, 0, 0, 0)
    yield "huge.gif", b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";"
    yield "huge.jpg", good["image.jpg"].replace(struct.pack(">HH", 48, 64), b"\xff\xff\xff\xff", 1)
    yield "huge.webp", make.riff(b"WEBP", b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff" * 6)
    yield (
        "huge.tif",
        make.tiff({256: most, 257: most, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: most, 279: most}),
    )
    yield "self.tif", b"II*\0" + struct.pack("<IHHHIII", 8, 1, 256, 4, 1, 1, 8)  # the next page is this one
    yield (
        "depth-huge.tif",
        make.tiff({256: 60000, 257: 60000, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: 60000}),
    )
    yield "sensor.dng", make.tiff({254: 0, 256: most, 257: most, 258: 16, 259: 7, 262: 32803, 273: 8, 50706: 1})
    yield "four-gigabytes.wav", make.wav(16_000, 1, bytes(3200), declared=0xFFFFFFFF)
    yield "no-rate.wav", make.wav(0, 1, bytes(3200))
    yield "fast.wav", make.wav(0xFFFFFFFF, 1, bytes(3200))
    yield "slow.wav", make.wav(1, 1, bytes(3200))
    yield "channels-255.wav", make.wav(16_000, 255, bytes(255 * 2 * 1600))
    yield "channels-65535.wav", make.wav(16_000, 65535, bytes(3200))
    yield "channels-0.wav", make.wav(16_000, 0, bytes(3200))
    yield "long.au", b".snd" + struct.pack(">IIIII", 24, 0xFFFFFFFF, 3, 16_000, 1) + bytes(3200)
    yield "long.caf", b"caff\0\1\0\0data" + struct.pack(">Q", 1 << 62) + bytes(100)
    flac = good["sound.flac"]  # 36 bits of STREAMINFO count the samples
    yield "long.flac", flac[:21] + bytes([flac[21] | 0x0F]) + b"\xff" * 4 + flac[26:]
    yield "long.ogg", good["sound.ogg"][:6] + b"\xff" * 8 + good["sound.ogg"][14:]
    yield "huge-tag.mp3", b"ID3\4\0\0\x7f\x7f\x7f\x7f" + good["sound.mp3"]
    brands = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2"
    yield "huge-box.mp4", brands + b"\0\0\0\1moov" + struct.pack(">Q", 1 << 62) + bytes(64)
    yield "endless-box.mp4", brands + b"\0\0\0\0moov" + bytes(64)
    yield "deep-boxes.mp4", brands + make.nested_boxes(5000)
    yield "deep-boxes.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + make.nested_boxes(5000)
    yield "items.avif", good["image.avif"].replace(b"iloc", b"iloc\xff\xff\xff\xff", 1)
    yield "huge.mkv", good["video.mkv"][:60] + b"\x18\x53\x80\x67\x08\xff\xff\xff\xff\xff\xff\xff" + bytes(64)
    yield "many.avi", good["video.avi"].replace(b"avih8\0\0\0", b"avih8\0\0\0" + b"\xff" * 24, 1)
    yield "depth-10e12.npy", make.npy((10**12,), "<f4", bytes(64))
    yield "depth-negative.npy", make.npy((-1, 5), "<f4", bytes(64))
    yield "depth-no-row.npy", make.npy((0, 5), "<f4", b"")
    yield "depth-overflow.npy", make.npy((2**62, 2**62), "<f8", bytes(64))
    yield "imu-many-axes.npy", make.npy((1,) * 500, "<f4", bytes(4))
    yield "imu-long-header.npy", b"\x93NUMPY\2\0" + struct.pack("<I", 0xFFFFFFFF) + b"{'descr': "
    code = b"__import__('os').system('echo hostile 1>&2')"
    yield "imu-code.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(code)) + code
    yield "imu-deep-header.npy", b"\x93NUMPY\2\0" + struct.pack("<I", 60_000) + b"(" * 60_000
    yield "huge-footer.parquet", b"PAR1" + bytes(64) + b"\xff\xff\xff\x7fPAR1"
    yield "no-footer.parquet", b"PAR1PAR1"
    yield "huge-member.zip", good["archive.zip"].replace(struct.pack("<I", len(good["sound.wav"])), b"\xfe\xff\xff\xff")
    yield "huge-member.tar", good["archive.tar"][:124] + b"77777777777\0" + good["archive.tar"][136:]
    yield "imu-huge-member.npz", good["imu.npz"].replace(b"\xff\xff\xff\xff\xff\xff\xff\xff", b"\xff" * 7 + b"\x7f")


def bombs() -> Iterator[tuple[str, bytes]]:
    """Little on disk, much in memory or time."""
    yield "zeros.png", make.png(30_000, 30_000, 8, 0, make.zlib_zeros(30_000 * 30_001))
    yield "depth-zeros.png", make.png(16_000, 16_000, 16, 0, make.zlib_zeros(16_000 * 32_001))
    bomb, pixels = make.zlib_zeros(500 * MIB), zlib.compress(bytes(72))
    yield "text.png", make.png(8, 8, 8, 0, pixels, before=make.chunk(b"zTXt", b"Comment\0\0" + bomb))
    yield "profile.png", make.png(8, 8, 8, 0, pixels, before=make.chunk(b"iCCP", b"icc\0\0" + bomb))
    frame = b"!\xf9\4\4\1\0\0\0" + b",\0\0\0\0\1\0\1\0\0" + b"\2\2D\1\0"
    colours = struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    yield "frames.gif", b"GIF89a" + colours + frame * 100_000 + b";"
    yield "still-frames.gif", b"GIF89a" + colours + frame.replace(b"\1\0\0\0,", b"\0\0\0\0,", 1) * 100_000 + b";"
    large = struct.pack("<HHBBB", 20_000, 20_000, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    yield "large-frames.gif", b"GIF89a" + large + frame * 2_000 + b";"
    header = make.npy((1 << 28, 2), "<f4", b"")
    size = len(header) + (1 << 31)
    yield "depth-zeros.npz", make.zip_of_zeros("depth.npy", header, size)
    yield (
        "imu-zeros.npz",
        make.zip_of_zeros("imu.npy", make.npy((1 << 25, 6), "<f8", b""), 128 + (1 << 25) * 48),
    )
    yield (
        "zeros.zip",
        make.zip_of_zeros("zeros.wav", make.wav(16_000, 1, b"", declared=(1 << 31) - 1), 1 << 31),
    )
    yield "members.zip", make.zip_of({f"{n}.txt": b"" for n in range(300)})
    yield "zip-in-zip.zip", make.nested_zip(8)
    heading = tarfile.TarInfo("zeros.wav")
    heading.size = 1 << 31
    yield "zeros.tar.gz", make.gzip_of_zeros(heading.tobuf(), 512 + (1 << 31))
    yield "endless.tar.gz", make.gzip_of_zeros(b"", 1 << 30)
    table = pa.table({name: np.zeros(3_000_000) for name in ("ax", "ay", "az", "gx", "gy", "gz")})
    out = io.BytesIO()
    parquet.write_table(table, out, compression="zstd")
    yield "imu-zeros.parquet", out.getvalue()
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    xml = f'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY l0 "ha">{laughs}]><l>&l11;</l>'.encode()
    yield "laughs.txt", xml
    yield "laughs.svg", xml
    packet = io.BytesIO()
    Image.new("RGB", (8, 8)).save(packet, "jpeg", xmp=xml)
    yield "laughs.jpg", packet.getvalue()
    packet = io.BytesIO()
    Image.new("RGB", (20_000, 9_000)).save(packet, "jpeg", quality=1, progressive=True)
    yield "progressive.jpg", packet.getvalue()


def archives(good: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Members that want to lie elsewhere, that are none, that are called alike."""
    picture = good["image.jpg"]
    outside = ["../../outside.jpg", "/etc/outside.jpg", "a/../../b.jpg", "C:\\x.jpg", "", ".", "x" * 5000 + ".jpg"]
    yield "outside.tar", make.tar_of(dict.fromkeys(outside, picture))
    yield "outside.zip", make.zip_of(dict.fromkeys([*outside, "nul\0.jpg"], picture))
    links = io.BytesIO()
    with tarfile.open(fileobj=links, mode="w") as archive:
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "link-2.jpg"), (tarfile.CHRTYPE, ""),
                             (tarfile.FIFOTYPE, ""), (tarfile.SYMTYPE, "link-2.jpg")):  # fmt: skip
            member = tarfile.TarInfo(f"link-{kind.decode()}.jpg")
            member.type, member.linkname = kind, target
            archive.addfile(member)
    yield "links.tar", links.getvalue()
    alike = io.BytesIO()
    with tarfile.open(fileobj=alike, mode="w") as archive:
        for _ in range(3):
            member = tarfile.TarInfo("same.jpg")
            member.size = len(picture)
            archive.addfile(member, io.BytesIO(picture))
    yield "alike.tar", alike.getvalue()
    secret = bytearray(make.zip_of({"secret.jpg": picture}))
    secret[6] |= 1
    secret[secret.index(b"PK\1\2") + 8] |= 1
    yield "secret.zip", bytes(secret)
    yield (
        "method.zip",
        make.zip_of({"a.jpg": picture}).replace(b"PK\3\4\x14\0\0\0\x08\0", b"PK\3\4\x14\0\0\0\x63\0"),
    )
    yield "bytes.tar", make.tar_of({"caf\udce9.jpg": picture, "\x1b[2J\n.jpg": picture})
    yield (
        "sample.tar",
        make.tar_of({"1.jpg": picture, "1.json": b"[" * 10_000, "1.txt": b"\xff\xfe\0", "1.cls": b"9" * 999}),
    )
    yield "pax.tar", make.pax_tar(picture)
    yield "no-end.zip", make.zip_of({"a.jpg": picture})[:-22]
    yield "twice.tar.gz", make.gzipped(good["archive.tar"]) + make.gzipped(good["archive.tar"])
    yield "tail.tar.gz", make.gzipped(good["archive.tar"]) + b"\xff" * 1000


def names(good: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Good pictures of which only the name is odd; the long ones as long as a name can be."""
    odd = ["new\nline.jpg", 'quo"te\'s`$(reboot).jpg', "tab\tbell\x07\x1b[31mred.jpg", "💥🦆\u202egpj.jpg", " .jpg",
           "-rf.jpg", "%s%n{0}.jpg", "a" * 251 + ".jpg", "ü" * 125 + "a.jpg", "*?[a].jpg", "back\\slash.jpg", "con.jpg",
           "~.jpg", "#.jpg", "a;b&c|d.jpg", "..jpg.jpg", "two.dots..jpg", ".hidden.jpg", "no-extension", "UPPER.JPG",
           "a.jpg.", "e\u0301.jpg", "\u00e9.jpg", "\ufeff.jpg", "\u2028.jpg"]  # fmt: skip
    for place, name in enumerate([*odd, "not-utf8-\udcff\udcfe.jpg"]):
        yield name, good["image.jpg"] + bytes([place])


def specials(folder: Path, picture: bytes) -> Iterator[Path]:
    """Yield entries that are not regular files, or not readable."""
    folder.mkdir(exist_ok=True)
    os.mkfifo(folder / "pipe.jpg")
    yield folder / "pipe.jpg"
    here = Path.cwd()
    os.chdir(folder)  # the path of a socket may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket.jpg")
    finally:
        os.chdir(here)
    yield folder / "socket.jpg"
    links = {"zero.jpg": "/dev/zero", "random.txt": "/dev/urandom", "memory.wav": "/proc/self/mem", "self": ".",
             "loop-a.jpg": "loop-b.jpg", "loop-b.jpg": "loop-a.jpg", "nowhere.jpg": "gone.jpg", "up": "..",
             "pipe-link.npy": "pipe.jpg"}  # fmt: skip
    for name, target in links.items():
        (folder / name).symlink_to(target)
        yield folder / name
    (folder / "folder.jpg").mkdir()
    yield folder / "folder.jpg"
    (folder / "folder.wav.json").mkdir()
    yield folder / "folder.wav.json"
    deep = folder
    for n in range(60):
        deep = deep / f"{n}-deep"
    deep.mkdir(parents=True)
    (deep / "deep.jpg").write_bytes(picture)
    yield deep / "deep.jpg"
    for name in ("locked.jpg", "locked.npy", "beside.txt.json"):
        (folder / name).write_bytes(picture)
        (folder / name).chmod(0)
        yield folder / name
    (folder / "beside.txt").write_bytes(b"beside facts that may not be read")
    yield folder / "beside.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.stdout.write(f"{len(make_hostile(arguments.folder, arguments.seed))} made\n")


if __name__ == "__main__":
    main()
