"""BindSearch: cross-modal vector search. Anything finds anything: text, images, video, sound, depth, thermal, motion.

    import bindsearch as bs

    with bs.connect("my-store") as store:
        store.index("~/Media")
        for hit in store.search(0.5 * bs.image("fruit.jpg") + 0.5 * bs.audio("birds.wav"), to="image"):
            print(hit.rank, hit.path)

Names load on first use: importing the package loads no torch, faiss or duckdb.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bindsearch.answer import Answer, Status
    from bindsearch.encoders import Encoder, Runtime, encode_media, load_encoder
    from bindsearch.errors import (
        BindSearchError,
        EncoderError,
        IndexDamagedError,
        InstallationError,
        MediaError,
        QuerySyntaxError,
        StoreError,
        StoreLockedError,
        StoreNotFoundError,
        UsageError,
        VectorError,
    )
    from bindsearch.exporting import export_vectors
    from bindsearch.filters import Filter, make_filter
    from bindsearch.importing import import_vectors
    from bindsearch.indexes.base import IndexWishes
    from bindsearch.items import Hit, Modality
    from bindsearch.merging import merge_stores
    from bindsearch.plan import Plan
    from bindsearch.query import (
        Composition,
        Query,
        Rank,
        Term,
        audio,
        depth,
        image,
        imu,
        like,
        make_query,
        parse_query,
        text,
        thermal,
        video,
    )
    from bindsearch.store import Store, connect

__version__ = "0.1.0"

_HOMES = {
    "bindsearch.answer": ("Answer", "Status"),
    "bindsearch.encoders": ("Encoder", "Runtime", "encode_media", "load_encoder"),
    "bindsearch.errors": (
        "BindSearchError",
        "EncoderError",
        "IndexDamagedError",
        "InstallationError",
        "MediaError",
        "QuerySyntaxError",
        "StoreError",
        "StoreLockedError",
        "StoreNotFoundError",
        "UsageError",
        "VectorError",
    ),
    "bindsearch.exporting": ("export_vectors",),
    "bindsearch.filters": ("Filter", "make_filter"),
    "bindsearch.importing": ("import_vectors",),
    "bindsearch.indexes.base": ("IndexWishes",),
    "bindsearch.items": ("Hit", "Modality"),
    "bindsearch.merging": ("merge_stores",),
    "bindsearch.plan": ("Plan",),
    "bindsearch.query": (
        "Composition",
        "Query",
        "Rank",
        "Term",
        "audio",
        "depth",
        "image",
        "imu",
        "like",
        "make_query",
        "parse_query",
        "text",
        "thermal",
        "video",
    ),
    "bindsearch.store": ("Store", "connect"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "BindSearchError",
    "Composition",
    "Encoder",
    "EncoderError",
    "Filter",
    "Hit",
    "IndexDamagedError",
    "IndexWishes",
    "InstallationError",
    "MediaError",
    "Modality",
    "Plan",
    "Query",
    "QuerySyntaxError",
    "Rank",
    "Runtime",
    "Status",
    "Store",
    "StoreError",
    "StoreLockedError",
    "StoreNotFoundError",
    "Term",
    "UsageError",
    "VectorError",
    "audio",
    "connect",
    "depth",
    "encode_media",
    "export_vectors",
    "image",
    "import_vectors",
    "imu",
    "like",
    "load_encoder",
    "make_filter",
    "make_query",
    "merge_stores",
    "parse_query",
    "text",
    "thermal",
    "video",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'bindsearch' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
