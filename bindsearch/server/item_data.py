"""Items as a page shows them: names, links, columns, segments and pictures."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import numpy as np
from PIL import Image

from bindsearch.arguments import shown, to_choice, to_number
from bindsearch.errors import UsageError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.operations.locate.located import Located
from bindsearch.operations.segment_media import Place
from bindsearch.operations.show.drawing import INFERNO, coloured
from bindsearch.search.sql_filter.columns import DOCUMENTED, FilterColumns, Level, quote_name
from bindsearch.search.sql_filter.duckdb_sandbox import run_select
from bindsearch.server.limits import MAX_HEAT_CELLS, Refusal
from bindsearch.server.media_response import playable_type
from bindsearch.storage.snapshot import Snapshot
from bindsearch.store import Store
from bindsearch.types import METADATA_COLUMNS, Item, Modality
from bindsearch.views.located_hits import frame_at
from bindsearch.views.picture_cache import webp
from bindsearch.views.thumbnails import thumbnail

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SEGMENTS = 1000
MAX_TEXT_CHARACTERS = 20_000
CAPTION_NAMES = ("caption", "captions")
MAX_COLUMNS = 200
MAX_VALUES = 20
MAX_CHARACTERS = 100
MAX_ROWS = 200_000
"""Rows of a store that values are counted in: the first ones of a larger store."""
WITHOUT_VALUES = frozenset(("path", "name", "text", "item_id"))
"""Columns whose values are all different."""
RANGED = frozenset(("BIGINT", "UBIGINT", "DOUBLE", "TIMESTAMP"))
SIDES_PX = (96, 160, 240, 320, 480)
WIDTHS_PX = (480, 720, 960, 1280, 1920)
LOCATED_PX = 960
_HEAT_OPACITY = 170
"""Opacity, of 255, where the relevance is 1."""


def find_item(snapshot: Snapshot, item_id: int) -> Item:
    """Return an item. Raises Refusal: there is none with this id, or not any more."""
    item = snapshot.item(item_id) if 0 <= item_id < 1 << 62 else None
    if item is None:
        raise Refusal(404, f"there is no item {item_id}, or not any more: search again")
    return item


def item_data(snapshot: Snapshot, item_id: int) -> dict[str, Any]:
    """Return an item with its columns and at most MAX_SEGMENTS segments. Raises Refusal: there is none with this id."""
    item = find_item(snapshot, item_id)
    row = snapshot.items.slice(int(snapshot.item_rows(np.array([item_id]))[0]), 1).to_pylist()[0]
    own = json.loads(row["columns"]) if row["columns"] else {}
    measured = {name: _plain(row[name]) for name in METADATA_COLUMNS if row[name] is not None}
    given = [own.get(name) for name in CAPTION_NAMES]
    captions = [value if isinstance(value, list) else [value] for value in given]
    rows = snapshot.segments_of(item_id)
    segments = [snapshot.segment(number) for number in rows[:MAX_SEGMENTS].tolist()]
    return {
        "item_id": item.item_id,
        "path": str(item.path),
        "name": item.rel_path,
        "collection": str(item.collection),
        "modality": item.modality.value,
        "size_bytes": item.size_bytes,
        "modified": datetime.fromtimestamp(item.mtime_ns // 1_000_000_000).astimezone().isoformat(),
        "columns": {**measured, **{name: value for name, value in own.items() if name not in CAPTION_NAMES}},
        "captions": [text for texts in captions for text in texts if isinstance(text, str)],
        "n_segments": len(rows),
        "segments": [
            {
                "segment_id": segment.segment_id,
                "modality": segment.modality.value,
                "start_s": segment.start_s,
                "end_s": segment.end_s,
                "text": None if segment.text is None else segment.text[:MAX_TEXT_CHARACTERS],
            }
            for segment in segments
        ],
        **links(item.item_id, item.path),
    }


def segment_of(data: object) -> tuple[int, Modality, float | None]:
    """Return item, modality and start of the hit that a request for places names. Raises UsageError: it names none."""
    if not isinstance(data, Mapping):
        raise UsageError(f"the request is {shown(data)}: give a JSON object")
    item_id, start_s = data.get("item_id"), data.get("start_s")
    if not isinstance(item_id, int) or isinstance(item_id, bool):
        raise UsageError(f"item_id is {shown(item_id)}: give the id of the item of a hit")
    modality = to_choice(data.get("modality"), Modality, "modality")
    if modality is Modality.TEXT:
        raise UsageError("a text has no places: locate a picture or a recording")
    if start_s is not None:
        start_s = to_number(start_s, "start_s", "give the seconds where the hit starts, or null", 0.0, math.inf)
    if "query" not in data:
        raise UsageError("the request has no query: give that of the answer")
    return item_id, modality, start_s


def hit_links(hit: Mapping[str, Any]) -> dict[str, Any]:
    """Return the name of a hit's file in its collection, and the links of its segment; given as of `answer_data`."""
    path, collection = Path(hit["path"]), Path(hit["collection"])
    name = path.relative_to(collection).as_posix() if path.is_relative_to(collection) else str(path)
    segment = {key: hit[key] for key in ("modality", "start_s", "end_s") if hit[key] is not None}
    return {"name": name, **links(hit["item_id"], path, segment)}


def links(item_id: int, path: Path, segment: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return links to the pictures of an item or a segment, and to its file, if browsers show files of its kind."""
    query = f"?{urlencode(segment)}" if segment else ""
    return {
        "thumbnail": f"/api/items/{item_id}/thumbnail{query}",
        "figure": f"/api/items/{item_id}/figure{query}",
        "media": None if playable_type(path.name) is None else f"/api/items/{item_id}/media",
    }


def _plain(value: object) -> object:
    return value.isoformat(" ") if isinstance(value, datetime) else value


def column_data(store: Store) -> list[dict[str, Any]]:
    """Return name, type, meaning, most frequent values, minimum and maximum of the first MAX_COLUMNS columns."""
    snapshot = store.generation().snapshot
    columns = FilterColumns(snapshot)
    alive = {Level.ITEM: snapshot.item_alive, Level.SEGMENT: snapshot.segment_alive}
    types = {name: (kind, meaning) for name, (_, kind, meaning) in DOCUMENTED.items()}
    types |= {name: (kind, "written by `bindsearch classify`") for name, kind in columns.class_types.items()}
    types |= {name: (kind, "of your own") for name, kind in columns.user_types.items()}
    return [
        {"name": name, "type": kind, "meaning": meaning, **_values(columns, name, kind, alive[columns.level(name)])}
        for name, (kind, meaning) in [*types.items()][:MAX_COLUMNS]
    ]


def _values(columns: FilterColumns, name: str, kind: str, alive: NDArray[np.bool_] | None) -> Mapping[str, Any]:
    nothing: dict[str, Any] = {"values": [], "min": None, "max": None}
    if name in WITHOUT_VALUES or kind not in {*RANGED, "VARCHAR", "BOOLEAN"}:
        return nothing
    table, selected = columns.source([name], columns.level(name))
    if alive is not None:
        import pyarrow as pa

        table = table.filter(pa.array(alive))
    quoted = quote_name(name)
    values = f"SELECT {selected} FROM rows LIMIT {MAX_ROWS}"
    out = dict(nothing)
    if kind in RANGED:
        bounds = run_select(f"SELECT min({quoted}), max({quoted}) FROM ({values})", {"rows": table})
        out["min"], out["max"] = (_plain(column[0].as_py()) for column in bounds.columns)
    if kind not in ("DOUBLE", "TIMESTAMP"):
        counted = (
            f"SELECT {quoted} FROM ({values}) WHERE {quoted} IS NOT NULL GROUP BY 1 "
            f"ORDER BY count(*) DESC, 1 LIMIT {MAX_VALUES}"
        )
        found = run_select(counted, {"rows": table}).column(0).to_pylist()
        out["values"] = [value for value in found if len(str(value)) <= MAX_CHARACTERS]
    return out


def find_place(snapshot: Snapshot, item: Item, modality: Modality | None, start_s: float | None) -> Place:
    """Return the segment of an item nearest to a start, else its first of a modality. Raises Refusal: it has none."""
    wanted = item.modality if modality is None else modality
    segments = map(snapshot.segment, snapshot.segments_of(item.item_id).tolist())
    of_modality = [segment for segment in segments if segment.modality is wanted]
    if not of_modality:
        raise Refusal(404, f"item {item.item_id} has no segment of modality {wanted}")
    chosen = of_modality[0]
    if start_s is not None:
        chosen = min(of_modality, key=lambda segment: abs((segment.start_s or 0.0) - start_s))
    return Place(item.path, item.collection, wanted, chosen.start_s, chosen.end_s, chosen.text)


def nearest_size(asked: int, sizes: tuple[int, ...]) -> int:
    """Return the least size that is not smaller than asked, so that few sizes are kept."""
    return next((size for size in sizes if size >= asked), sizes[-1])


def located_pictures(place: Place, located: Located, options: DecodeOptions) -> dict[str, str | None]:
    """Return the picture that the boxes are in and its heat map, as data URLs; None: there is none.

    The heat map is a PNG of at most MAX_HEAT_CELLS a side, less transparent where the relevance is higher, that covers
    the picture. Depth and heat are grey: the palettes of their pictures grow lighter with the value.

    Raises:
        MediaError: the file is gone, has changed or is damaged.
    """
    if located.heat is None:
        return {"picture": None, "heat": None}
    at_s = None if located.peak is None else located.peak.at_s
    shown = thumbnail(frame_at(place, at_s), LOCATED_PX, options)
    if place.modality in (Modality.DEPTH, Modality.THERMAL):
        shown = shown.convert("L").convert("RGB")  # false colours would mix with those of the heat map
    known = np.nan_to_num(located.heat).clip(0, 1)  # NaN where the relevance is not known
    pixels = np.concatenate([coloured(known, INFERNO), (_HEAT_OPACITY * known)[..., None].round()], -1)
    heat, png = Image.fromarray(pixels.astype(np.uint8)), BytesIO()
    heat.thumbnail((MAX_HEAT_CELLS, MAX_HEAT_CELLS), Image.Resampling.BOX)
    heat.save(png, "PNG")
    return {"picture": _data_url(webp(shown), "webp"), "heat": _data_url(png.getvalue(), "png")}


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(content).decode()}"
