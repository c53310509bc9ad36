"""Places in hits that answer the query: as data of answers, and the pictures that boxes are drawn on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindsearch.errors import BindSearchError, first_line
from bindsearch.operations.locate.located import located_data
from bindsearch.operations.segment_media import INSTANT_S, Place
from bindsearch.reports import OnRows, ignore_rows
from bindsearch.search.query import Composition
from bindsearch.types import Hit, Modality
from bindsearch.views.answer_data import answer_data

if TYPE_CHECKING:
    from bindsearch.results import Answer
    from bindsearch.search.query import Query
    from bindsearch.store import Store

MAX_LOCATED = 20
"""Most hits of an answer that are located: each costs about as much as to index it."""


@dataclass(frozen=True, slots=True)
class HitLocating:
    """Options of `locate_hits`.

    Attributes:
        most: Most hits that are located, best first.
        imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
        report: Called with the number of hits that are done, and that of all, before and after each.
    """

    most: int = MAX_LOCATED
    imu_rate_hz: float | None = None
    report: OnRows = ignore_rows


def locate_hits(store: Store, query: Query, answer: Answer, options: HitLocating | None = None) -> dict[str, Any]:
    """Return an answer as data (`answer_data`) whose hits have the places that answer the query, under `located`.

    A hit that cannot be located has no method, and a notice that says why. Texts have none, as their passage is the
    place; nor do hits beyond the most that are located, which a notice of the answer counts.

    Args:
        store: The store that answered.
        query: The query.
        answer: Its answer.
        options: Bounds; None: the defaults.
    """
    options = options or HitLocating()
    data = answer_data(answer)
    media = [number for number, hit in enumerate(answer.hits) if hit.modality is not Modality.TEXT]
    chosen = media[: options.most]
    for done, number in enumerate(chosen):
        options.report(done, len(chosen))
        hit = answer.hits[number]
        try:
            found = located_data(store.locate(Composition(query.terms), hit, imu_rate_hz=options.imu_rate_hz))
        except BindSearchError as error:
            nothing: dict[str, Any] = {"method": None, "boxes": [], "spans": [], "peak": None, "curve": None}
            found = {**nothing, "notices": [first_line(error)]}
        data["hits"][number]["located"] = found
    options.report(len(chosen), len(chosen))
    if left := len(media) - len(chosen):
        data["notices"].append(f"located: the best {len(chosen)} hits; {left} more were not")
    return data


def hit_at(place: Place, item_id: int) -> Hit:
    """Return a segment of an item as a hit that was not ranked, to locate in it."""
    return Hit(
        rank=1,
        path=place.path,
        modality=place.modality,
        score=0.0,
        cosine=0.0,
        item_id=item_id,
        collection=place.root,
        start_s=place.start_s,
        end_s=place.end_s,
        text=place.text,
    )


def place_of(hit: Mapping[str, Any]) -> Place:
    """Return the place of a hit as data; of a video with boxes, the frame that has the best one."""
    modality = Modality(hit["modality"])
    place = Place(Path(hit["path"]), Path(hit["collection"]), modality, hit["start_s"], hit["end_s"], hit["text"])
    boxes = hit["located"]["boxes"] if hit["located"] else ()
    return frame_at(place, boxes[0]["at_s"]) if boxes else place


def frame_at(place: Place, at_s: float | None) -> Place:
    """Return the frame of a video at a time; without a time, the place itself."""
    return place if at_s is None else replace(place, start_s=at_s, end_s=at_s + INSTANT_S)
