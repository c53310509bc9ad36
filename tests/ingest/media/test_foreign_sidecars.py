"""JSON of other programs beside a file: it never costs the file, and what its layout is known to say is read."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.declared import Declared
from bindsearch.ingest.manifests.manifest import ManifestEntry
from bindsearch.ingest.media.foreign.layouts import find_sidecars, foreign_names, may_be_foreign, read_foreign
from bindsearch.ingest.media.sidecar import KEYS, Sidecar, merge_sidecars
from bindsearch.ingest.media.sidecar_file import MAX_FOREIGN_BYTES, parse_sidecar, read_sidecar
from bindsearch.types import Metadata, Modality
from helpers.stores import connect

EXIFTOOL = {
    "SourceFile": "holiday/a.jpg", "ExifToolVersion": 12.57, "FileName": "a.jpg", "Title": "Harbour",
    "Caption-Abstract": "Boats at dawn", "Keywords": ["boat", "sea"], "DateTimeOriginal": "2021:07:03 05:12:09",
    "GPSLatitude": "43 deg 17' 51.00\" N", "GPSLongitude": "5 deg 22' 12.00\" W", "Artist": "A. Painter",
}  # fmt: skip
OSXPHOTOS = {
    "SourceFile": "a.jpg", "ExifTool:ExifToolVersion": "12.00", "EXIF:ImageDescription": "Boats at dawn",
    "XMP:Title": "Harbour", "IPTC:Keywords": ["boat", "sea"], "EXIF:GPSLatitude": 43.2975, "EXIF:GPSLatitudeRef": "N",
    "EXIF:GPSLongitude": 5.37, "EXIF:GPSLongitudeRef": "W", "EXIF:DateTimeOriginal": "2021:07:03 07:12:09",
    "EXIF:OffsetTimeOriginal": "+02:00",
}  # fmt: skip
TAKEOUT = {
    "title": "a.jpg", "description": "Boats at dawn", "photoTakenTime": {"timestamp": "1625289129", "formatted": "x"},
    "geoData": {"latitude": 43.2975, "longitude": -5.37, "altitude": 0.0}, "url": "https://photos.example/1",
}  # fmt: skip
GALLERY = {
    "id": 101, "title": "harbour", "caption": "boats at dawn", "category": "pixiv", "subcategory": "user",
    "width": 96, "tags": ["boat", "sea"], "date": "2021-07-03 05:12:09",
}  # fmt: skip
DOWNLOAD = {
    "id": "x1", "title": "Harbour tour", "description": "Boats at dawn", "extractor": "youtube",
    "webpage_url": "https://video.example/x1", "upload_date": "20210703", "uploader": "A. Painter", "formats": [],
}  # fmt: skip
MOMENT = datetime(2021, 7, 3, 5, 12, 9)


def picture(path: Path) -> Path:
    rows = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    Image.fromarray(rows).resize((96, 72)).save(path)
    return path


@pytest.mark.parametrize("document", [[EXIFTOOL], EXIFTOOL, [OSXPHOTOS], [{"SourceFile": "b.jpg"}, OSXPHOTOS]])
def test_exiftool_and_osxphotos(document: Any) -> None:
    found = parse_sidecar(json.dumps(document).encode(), "a.jpg")
    assert found.found_captions == ("Harbour", "Boats at dawn", "boat, sea")
    assert (found.found.title, found.found.taken) == ("Harbour", MOMENT)
    assert (found.found.latitude, found.found.longitude) == (43.2975, -5.37)
    assert found.notes == (
        "JSON of exiftool beside it: 3 captions, taken, title, "
        + ("artist, " if "Artist" in str(document) else "")
        + "latitude, longitude used",
    )


def test_google_takeout() -> None:
    found = parse_sidecar(json.dumps(TAKEOUT).encode(), "a.jpg")
    assert (found.found_captions, found.found.taken, found.found.title) == (("Boats at dawn",), MOMENT, None)
    assert (found.found.latitude, found.found.longitude) == (43.2975, -5.37)
    nowhere = {**TAKEOUT, "geoData": {"latitude": 0.0, "longitude": 0.0}}
    assert parse_sidecar(json.dumps(nowhere).encode(), "a.jpg").found.latitude is None


def test_downloaders() -> None:
    found = parse_sidecar(json.dumps(GALLERY).encode(), "a.jpg")
    assert (found.found_captions, found.found.taken) == (("harbour", "boats at dawn", "boat, sea"), MOMENT)
    found = parse_sidecar(json.dumps(DOWNLOAD).encode(), "a.mp4")
    assert (found.found_captions, found.found.title) == (("Harbour tour", "Boats at dawn"), "Harbour tour")
    assert (found.found.taken, found.found.artist) == (datetime(2021, 7, 3), "A. Painter")


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("photo.jpg", ["photo.jpg.supplemental-metadata.json"]),
        ("photo(1).jpg", ["photo.jpg.supplemental-metadata(1).json", "photo.jpg(1).json"]),
        (f"{'a' * 30}.jpg", [f"{'a' * 30}.jpg.supplementa.json"]),
        (f"{'a' * 36}_DSC1.JPG", [f"{'a' * 36}_DSC1.JPG.json"]),
        (f"{'b' * 50}.jpg", [f"{'b' * 46}.json"]),
        ("film.mp4", ["film.info.json", "film.mp4.supplemental-metadata.json"]),
    ],
)
def test_their_names(name: str, others: list[str]) -> None:
    names = foreign_names(name)
    for other in others:
        if other != name + ".json":
            assert other in names
            assert may_be_foreign(other)
            assert find_sidecars([name, other]) == {name: [other]}
            assert foreign_names(f"x/{name}")[names.index(other)] == f"x/{other}"
    assert find_sidecars([name, name + ".json", *names]) == {name: [name + ".json", *names]}


def test_a_cut_name_is_compared_with_the_title() -> None:
    name = "c" * 46 + "_1.jpg"
    assert read_foreign({**TAKEOUT, "title": name}, name) is not None
    assert read_foreign({**TAKEOUT, "title": "c" * 46 + "_2.jpg"}, name) is None


@pytest.mark.parametrize(
    ("raw", "note"),
    [
        (b"", "JSON beside it is empty: not used"),
        (b" \n", "JSON beside it is empty: not used"),
        (b"{", "JSON beside it is not JSON: not used"),
        (b"\xff\xfe{", "JSON beside it is not JSON: not used"),
        (b"[" * 100_000, "JSON beside it is not JSON: not used"),
        (b"[1, 2]", "JSON beside it is another program's: not used"),
        (b'"text"', "JSON beside it is another program's: not used"),
        (b'{"units": "px"}', "JSON beside it is another program's (keys units): not used"),
        (b'{"units": "px", "width": 4}', "JSON beside it is another program's (keys units, width): not used"),
        (b'{"columns": null, "id": 1}', "JSON beside it is another program's (keys columns, id): not used"),
        (
            b'{"columns": ["a"], "index": [0], "data": [[1]]}',
            "JSON beside it is another program's (keys columns, index, data)",
        ),
        (
            b'{"fx": 500, "fy": 500, "cx": 320, "cy": 240}',
            "JSON beside it is another program's (keys fx, fy, cx, ...)",
        ),
        (json.dumps([EXIFTOOL]).encode("utf-16"), "JSON of exiftool beside it: 3 captions"),
        (json.dumps([EXIFTOOL]).encode("utf-8-sig"), "JSON of exiftool beside it: 3 captions"),
        (json.dumps(GALLERY).encode(), "JSON of gallery-dl beside it: 3 captions"),
        (b" " * MAX_FOREIGN_BYTES + b"{}", "JSON beside it is not read: larger than"),
    ],
)
def test_no_json_costs_the_photo(tmp_path: Path, raw: bytes, note: str) -> None:
    photo = picture(tmp_path / "a.jpg")
    (tmp_path / "a.jpg.json").write_bytes(raw)
    assert read_sidecar(photo).notes[0].startswith(note)
    (tmp_path / "b.jpg.json").mkdir()
    assert read_sidecar(picture(tmp_path / "b.jpg")) == Sidecar()


@pytest.mark.parametrize(
    "raw", [b'{"fx": "wide"}', b'{"focal": 1, "fx": 2}', b'{"depth_unit": "mm",}', b'{"units": "g"}']
)
def test_errors_in_own_sidecars_stay_errors(raw: bytes) -> None:
    with pytest.raises(MediaError):
        parse_sidecar(raw, "a.png")


def test_a_photo_is_found_by_what_other_programs_say(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    for name, other, document in (
        ("a.jpg", "a.jpg.json", [EXIFTOOL]),
        ("b(1).jpg", "b.jpg.supplemental-metadata(1).json", {**TAKEOUT, "description": "A windmill"}),
    ):
        picture(folder / name)
        (folder / other).write_text(json.dumps(document))
    with connect(tmp_path / "store", encoder="null") as store:
        report = store.index(folder)
        assert (report.added, report.failed) == (2, 0)
        assert store.index(folder).unchanged == 2
        assert {hit.path.name for hit in store.search("windmill", words="only")} >= {"b(1).jpg"}
        (folder / "b.jpg.supplemental-metadata(1).json").write_text(json.dumps({**TAKEOUT, "description": "A tower"}))
        assert store.index(folder).unchanged == 1


words = st.sampled_from(
    [*KEYS, "SourceFile", "title", "description", "photoTakenTime", "geoData", "timestamp", "latitude", "longitude",
     "category", "tags", "date", "extractor", "webpage_url", "GPSLatitude", "DateTimeOriginal", "Keywords", "name"]
)  # fmt: skip
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.just("2021:07:03 05:12:09")
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=8), inner, max_size=6)
)


@settings(max_examples=400, deadline=None)
@given(values)
def test_any_json_is_read_or_refused_as_an_own_sidecar(value: Any) -> None:
    raw = json.dumps(value).encode()
    try:
        found = parse_sidecar(raw, "a.jpg")
    except MediaError:
        assert isinstance(value, dict)
        given = [key for key in value if key in KEYS and value[key] is not None]
        others = [key for key in value if key not in KEYS]
        assert len(given) >= len(others)
        return
    for caption in found.found_captions:
        assert caption.strip()
        caption.encode()
    if found.found.latitude is not None:
        assert abs(found.found.latitude) <= 90


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read(raw: bytes) -> None:
    parse_sidecar(raw, "a.jpg")


def test_captions_of_other_programs_fill_gaps_only() -> None:
    others = parse_sidecar(json.dumps(GALLERY).encode(), "a.jpg")
    listed = ManifestEntry(None, ("mine",), {}, Metadata())
    assert Declared("a.jpg", others, listed, Sidecar()).for_modality(Modality.IMAGE).captions == ("mine",)
    own = merge_sidecars(parse_sidecar(b'{"caption": "own"}'), others)
    assert Declared("a.jpg", own, None, Sidecar()).for_modality(Modality.IMAGE).captions == ("own",)
    assert Declared("a.jpg", others, None, Sidecar()).for_modality(Modality.IMAGE).captions == others.found_captions
