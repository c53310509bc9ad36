"""Record of what was located: which query and encoder, compared with what, in which file, and what was found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from bindsearch.operations.locate.located import Located, located_data
from bindsearch.operations.locate.relevance import Probe, UsedTerm
from bindsearch.types import Modality

if TYPE_CHECKING:
    from bindsearch.operations.segment_media import Place


@dataclass(frozen=True, slots=True)
class Asked:
    """Query and settings of locating, as they are recorded.

    Attributes:
        terms: Terms of the query.
        encoder: Name of the encoder.
        encoder_digest: Digest of its weights.
        against: Names of what the query was compared with.
        threshold: Least relevance of what was located.
        detail: Detail of pictures and recordings.
    """

    terms: tuple[UsedTerm, ...]
    encoder: str
    encoder_digest: str
    against: tuple[str, ...]
    threshold: float
    detail: int


def asked_of(probe: Probe, target: Modality | None) -> Asked:
    """Return what is recorded of an encoded query that is located in a modality; None: in none."""
    encoder, options = probe.encoder, probe.options
    return Asked(
        probe.terms, encoder.name, encoder.digest, probe.for_target(target).names, options.threshold, options.detail
    )


def asked_data(asked: Asked) -> dict[str, Any]:
    """Return the record of a query as values that JSON can hold."""
    return {
        "made_by": f"bindsearch {version('bindsearch')}",
        "command": "locate",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "query": [asdict(term) for term in asked.terms],
        "encoder": asked.encoder,
        "encoder_digest": asked.encoder_digest,
        "against": list(asked.against),
        "threshold": asked.threshold,
        "detail": asked.detail,
    }


def place_data(place: Place | None) -> dict[str, Any]:
    """Return the segment or file that was looked in as values that JSON can hold; null: it was not found."""
    return {
        "path": None if place is None else str(place.path),
        "modality": None if place is None else place.modality.value,
        "start_s": None if place is None else place.start_s,
        "end_s": None if place is None else place.end_s,
    }


def picture_record(asked: Asked, place: Place, located: Located) -> dict[str, Any]:
    """Return the record of a drawing: of the curve and the heat map, which are drawn, only the best values."""
    data = {**place_data(place), **located_data(located)}
    del data["curve"]
    return {**asked_data(asked), "file": data}
