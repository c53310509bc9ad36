"""Cross-modal vector search over text, images, video, audio, depth, thermal and motion (IMU) data.

    import bindsearch as bs

    with bs.connect("my-store") as store:
        store.index("~/Media")
        for hit in store.search(0.5 * bs.image("fruit.jpg") + 0.5 * bs.audio("birds.wav"), to="image"):
            print(hit.rank, hit.path)

Names are imported on first use: importing the package loads neither torch nor faiss nor duckdb.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from bindsearch.generation.imagine import ImaginedPicture, imagine
    from bindsearch.generation.settings import PictureSettings
    from bindsearch.indexes.types import IndexSettings, IndexWishes
    from bindsearch.operations.classify.files import classify
    from bindsearch.operations.exchange.export import export_vectors
    from bindsearch.operations.exchange.file_vectors import embed_files
    from bindsearch.operations.exchange.import_ import import_vectors
    from bindsearch.operations.exchange.merge import merge_stores
    from bindsearch.operations.locate.locate import locate
    from bindsearch.operations.locate.relevance import LocateOptions
    from bindsearch.results import Answer, Status
    from bindsearch.search.filter import Filter, make_filter
    from bindsearch.search.plan import Plan
    from bindsearch.search.query import (
        Composition,
        Query,
        Rank,
        Ranking,
        Term,
        WordSearch,
        audio,
        depth,
        image,
        imu,
        like,
        make_query,
        text,
        thermal,
        video,
    )
    from bindsearch.search.query_syntax import parse_query
    from bindsearch.shards.connect import connect
    from bindsearch.store import Store
    from bindsearch.types import Hit, Modality

__version__ = "0.1.0"

_HOMES = {
    "encoders": "Encoder Runtime encode_media load_encoder",
    "errors": "BindSearchError EncoderError IndexDamagedError InstallationError MediaError QuerySyntaxError StoreError "
    "StoreLockedError StoreNotFoundError UsageError VectorError",
    "generation.imagine": "ImaginedPicture imagine",
    "generation.settings": "PictureSettings",
    "indexes.types": "IndexSettings IndexWishes",
    "operations.classify.files": "classify",
    "operations.exchange.export": "export_vectors",
    "operations.exchange.file_vectors": "embed_files",
    "operations.exchange.import_": "import_vectors",
    "operations.exchange.merge": "merge_stores",
    "operations.locate.locate": "locate",
    "operations.locate.relevance": "LocateOptions",
    "results": "Answer Status",
    "search.filter": "Filter make_filter",
    "search.plan": "Plan",
    "search.query": "Composition Query Rank Ranking Term WordSearch audio depth image imu like make_query text thermal "
    "video",
    "search.query_syntax": "parse_query",
    "shards.connect": "connect",
    "store": "Store",
    "types": "Hit Modality",
}
"""Public names by the module below `bindsearch` that has them."""

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "Answer",
    "BindSearchError",
    "Composition",
    "Encoder",
    "EncoderError",
    "Filter",
    "Hit",
    "ImaginedPicture",
    "IndexDamagedError",
    "IndexSettings",
    "IndexWishes",
    "InstallationError",
    "LocateOptions",
    "MediaError",
    "Modality",
    "PictureSettings",
    "Plan",
    "Query",
    "QuerySyntaxError",
    "Rank",
    "Ranking",
    "Runtime",
    "Status",
    "Store",
    "StoreError",
    "StoreLockedError",
    "StoreNotFoundError",
    "Term",
    "UsageError",
    "VectorError",
    "WordSearch",
    "audio",
    "classify",
    "connect",
    "depth",
    "embed_files",
    "encode_media",
    "export_vectors",
    "image",
    "imagine",
    "import_vectors",
    "imu",
    "like",
    "load_encoder",
    "locate",
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

    return getattr(import_module(f"bindsearch.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
