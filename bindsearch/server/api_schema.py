"""Bodies and answers of the API, for openapi.json, which has its paths and parameters from the routes."""

from __future__ import annotations

from typing import Any

from bindsearch.search.query import LIKE, Ranking, WordSearch
from bindsearch.server.limits import MAX_K, MAX_TERMS
from bindsearch.types import Modality

Schema = dict[str, Any]

TEXT, NUMBER, INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer"}
TEXTS = {"type": "array", "items": TEXT}
MODALITY = {"type": "string", "enum": [modality.value for modality in Modality]}


def _object(required: str, **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": required.split()}


def _content(schema: Schema, content_type: str = "application/json") -> Schema:
    return {"content": {content_type: {"schema": schema}}}


def _answer(required: str, **properties: Schema) -> dict[int | str, Schema]:
    return {200: {"description": "done", **_content(_object(required, **properties))}}


TERM = _object(
    "kind source",
    kind={"type": "string", "enum": [Modality.TEXT.value, "upload", LIKE]},
    source={**TEXT, "description": "a text, the key of an upload, or the id of an item"},
    modality={**MODALITY, "description": "of an upload, if not the one that was detected"},
    weight={**NUMBER, "nullable": True},
    span=_object("start_s end_s", start_s=NUMBER, end_s=NUMBER),
)
FILTER = _object("", where=TEXT, folders=TEXTS, collections=TEXTS, since=TEXT, until=TEXT)
QUERY = _object(
    "terms",
    terms={"type": "array", "items": TERM, "minItems": 1, "maxItems": MAX_TERMS},
    to={"type": "array", "items": MODALITY},
    k={"type": "integer", "minimum": 1, "maximum": MAX_K, "default": 10},
    ranking={"type": "string", "enum": [*map(str, Ranking)]},
    include_query={"type": "boolean"},
    filter=FILTER,
    diversity=NUMBER,
    min_match={"oneOf": [NUMBER, TEXT]},
    copies={"type": "boolean"},
    words={"type": "string", "enum": [*map(str, WordSearch)]},
)
LOCATING = _object(
    "query item_id modality",
    query=QUERY,
    item_id={**INTEGER, "description": "of a hit"},
    modality=MODALITY,
    start_s={**NUMBER, "nullable": True},
)
OBJECT = {"type": "object"}
OBJECTS = {"type": "array", "items": OBJECT}
COUNTS = {"type": "object", "additionalProperties": INTEGER}
QUERY_BODY: Schema = {"requestBody": {"required": True, **_content(QUERY)}}
LOCATING_BODY: Schema = {"requestBody": {"required": True, **_content(LOCATING)}}
BINARY = {"type": "string", "format": "binary"}
UPLOAD_BODY: Schema = {"requestBody": {"required": True, **_content(BINARY, "application/octet-stream")}}
ERROR = _object("error", error=TEXT)
STATUS = _answer(
    "version store encoder dim generation items segments",
    version=TEXT,
    store=TEXT,
    encoder=TEXT,
    dim=INTEGER,
    generation=INTEGER,
    items=COUNTS,
    segments=COUNTS,
    collections={"type": "array", "items": _object("name root", name=TEXT, root=TEXT)},
    is_indexing={"type": "boolean"},
    uploads_max_bytes=INTEGER,
)
COLUMNS = _answer("columns", columns=OBJECTS)
UPLOAD = _answer("upload name modality size_bytes", upload=TEXT, name=TEXT, modality=MODALITY, size_bytes=INTEGER)
ANSWER = _answer("hits command", hits=OBJECTS, command=TEXT, notices=TEXTS, query=OBJECT)
LOCATED = _answer(
    "boxes spans words",
    boxes=OBJECTS,
    spans=OBJECTS,
    peak={**OBJECT, "nullable": True},
    curve={**OBJECT, "nullable": True},
    words={**TEXT, "description": "the best place in words"},
    places={**TEXTS, "description": "all boxes, or all spans, in words, in their order"},
    picture={**TEXT, "nullable": True, "description": "data URL of the picture that the boxes are in"},
    heat={**TEXT, "nullable": True, "description": "data URL of a transparent PNG that covers the picture"},
    notices=TEXTS,
)
PLAN = _answer("text plan", text=TEXT, plan=OBJECT)
ITEM = _answer("item_id path name", item_id=INTEGER, path=TEXT, name=TEXT, segments=OBJECTS)
MAP: dict[int | str, Schema] = {200: {"description": "done", **_content(OBJECT)}}
PICTURE: dict[int | str, Schema] = {200: {"description": "done", **_content(BINARY, "image/webp")}}
ERRORS: dict[int | str, Schema] = {
    "4XX": {"description": "the request is wrong or refused", **_content(ERROR)},
    "5XX": {"description": "the server is busy or has failed", **_content(ERROR)},
}
