"""Answers as plain data: what `search --json` prints, the page and the API show, and a server sends to commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.results import missing_paths

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from bindsearch.results import Answer
    from bindsearch.types import Hit


def answer_data(answer: Answer) -> dict[str, Any]:
    """Return an answer as values that JSON can hold; values that do not apply are None.

    `located` of a hit is None; `views.located_hits.locate_hits` locates.
    """
    missing = missing_paths(answer.hits)
    words = answer.plan.words
    return {
        "query": {
            "terms": [
                {"modality": term.modality.value, "source": term.source, "weight": term.weight} for term in answer.terms
            ],
            "to": [modality.value for modality in answer.to],
            "k": answer.k,
        },
        "took_ms": round(answer.took_ms, 3),
        "searched": {
            "segments": sum(step.matching_rows for step in answer.plan.partitions),
            "fields": None if words is None else words.fields,
            "words_alone": words is not None and words.alone,
        },
        "partial": answer.partial,
        "missing_shards": [{"shard": number, "reason": why} for number, why in answer.missing_shards.items()],
        "stands_out": answer.stands_out,
        "suggestions": [{"text": one.text, "query": one.query} for one in answer.suggestions],
        "notices": list(answer.notices),
        "hits": [_hit_data(hit, missing) for hit in answer.hits],
    }


def _hit_data(hit: Hit, missing: Container[Path]) -> dict[str, Any]:
    return {
        "rank": hit.rank,
        "path": str(hit.path),
        "modality": hit.modality.value,
        "match": hit.match.value,
        "probability": round(hit.probability, 6),
        "z": round(hit.z, 4),
        "score": round(hit.score, 6),
        "cosine": round(hit.cosine, 6),
        "item_id": hit.item_id,
        "collection": str(hit.collection),
        "start_s": hit.start_s,
        "end_s": hit.end_s,
        "text": hit.text,
        "contributions": [round(share, 6) for share in hit.contributions],
        "copies": [str(path) for path in hit.copies],
        "is_missing": hit.path in missing,
        "found_by": hit.found_by.value,
        "located": None,
    }


def with_lines(data: dict[str, Any]) -> dict[str, Any]:
    """Return an answer as data whose hits have the line of a text that their passage starts in, None for other hits.

    The text files are read for it, 17 ms for one of a megabyte: too long for lists that follow what is typed.
    """
    return {**data, "hits": [{**hit, "line": _line(hit)} for hit in data["hits"]]}


def _line(hit: Mapping[str, Any]) -> int | None:
    """Return the line of a passage; what is declared about its file is looked up only if it is not found."""
    if hit["text"] is None or hit["start_s"] is not None:
        return None
    from bindsearch.ingest.media.texts.encoding import line_of_passage

    path = Path(hit["path"])
    line = line_of_passage(path, hit["text"])
    if line is not None or not path.is_file():
        return line
    from bindsearch.ingest.inspect.find_file import declared_encoding

    encoding = declared_encoding(path, Path(hit["collection"]))
    return None if encoding is None else line_of_passage(path, hit["text"], encoding)
