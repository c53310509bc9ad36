"""`bindsearch calibrate`: fit the probability of a match to known answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bindsearch.cli.options import DeviceOption, JsonOption, StoreOption, argument
from bindsearch.cli.output import picked, plural, print_json, print_line


def calibrate_command(
    pairs: Annotated[
        Path | None, argument("PAIRS", "CSV file with the columns query and answer; default: the captions in sidecars.")
    ] = None,
    device: DeviceOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> int:
    """Fit the match of hits to queries whose answers you know, and keep it in the store.

    A query is a text, or a file after its modality: `image:dog.jpg`. An answer is the path of an indexed file; several
    rows may give several answers, an empty one says that nothing answers the query. Give some hundreds.

    Example: bindsearch calibrate answers.csv
    """
    from bindsearch.operations.calibrate import read_pairs
    from bindsearch.shards.connect import connect

    with connect(store, device=device) as opened:
        fitted = opened.calibrate(None if pairs is None else read_pairs(pairs))
    if json:
        pairs_data = [
            {**picked(pair, "source target queries matches"), "is_fitted": pair.coefficients is not None}
            for pair in fitted
        ]
        print_json({"pairs": pairs_data})
        return 0
    for pair in fitted:
        result = "fitted" if pair.coefficients is not None else "too few, as before"
        counts = f"{plural(pair.matches, 'answer')} of {plural(pair.queries, 'query')}".replace("querys", "queries")
        print_line(f"{pair.source:8} -> {pair.target:8} {counts}: {result}")
    return 0
