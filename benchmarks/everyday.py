"""The plain `search` on a messy folder: is the right thing first in the list of all kinds, and is its match right?

    python benchmarks/everyday.py --data ../shared/data     # saves a table to benchmarks/results

Real files in a temporary store, embedded by `mini`; see `everyday_folder.py`. Half of the queries are of data that the
calibration of `mini` was fitted to (`calibrate_mini.py`), half are not; both are measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from calibrate_mini import FITTED_HALF
from everyday_folder import EverydayFolder, KnownQuery, make_folder, working_folder
from numpy.typing import NDArray
from results import save_table

import bindsearch as bs
from bindsearch.store import Store
from bindsearch.types import Hit

K = 10
RULES = ("thermal=thermal/**", "depth=depth/**")
DECILES = np.linspace(0.0, 1.0, 11)


@dataclass(frozen=True)
class Answered:
    """A query with its hits: paths relative to the folder, and probabilities.

    Attributes:
        known: The query.
        mixed: Hits of all modalities.
        alone: Hits of the right modality.
    """

    known: KnownQuery
    mixed: list[tuple[str, float]]
    alone: list[tuple[str, float]]


def main() -> None:
    """Index, search, print and save."""
    with working_folder(__doc__) as (data, base):
        folder = make_folder(data, base / "files" / "media", base / "files" / "queries")
        store = bs.connect(base / "store")
        report = store.index(folder.media, rules=RULES)
        print(f"{report.added} files indexed, {len(report.failures)} failed")
        answered = ask(store, folder)
        table = f"{ranking_table(answered, folder)}\n{chance_table(answered)}\n{reliability_table(answered)}"
        table += f"\n{identical_line(store, folder)}"
    print(table)
    print(save_table("everyday", "Plain search of a messy folder, mini encoder", table))


def ask(store: Store, folder: EverydayFolder) -> list[Answered]:
    """Run all queries, once over all modalities and once over the right one."""

    def hits(lists: Sequence[Sequence[Hit]]) -> list[list[tuple[str, float]]]:
        return [[(hit.path.relative_to(folder.media).as_posix(), hit.probability) for hit in one] for one in lists]

    answered = []
    asked = folder.queries + folder.unanswered
    for to in dict.fromkeys(known.to for known in asked):
        group = [known for known in asked if known.to is to]
        queries = [known.query for known in group]
        mixed, alone = hits(store.search_many(queries, k=K)), hits(store.search_many(queries, to=to, k=K))
        answered += [Answered(*one) for one in zip(group, mixed, alone, strict=True)]
    return answered


def ranking_table(answered: Sequence[Answered], folder: EverydayFolder) -> str:
    """Return recall of the list of all modalities beside that of the right one, and the places of long texts."""
    long_texts = set(folder.documents)
    rows = [
        "| query | n | R@1 alone | R@1 mixed | share | R@10 alone | R@10 mixed | share | places of long texts |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in dict.fromkeys(one.known.kind for one in answered):
        of_kind = [one for one in answered if one.known.kind == kind]
        places = np.mean([path in long_texts for one in of_kind for path, _ in one.mixed])
        if not of_kind[0].known.answers:
            rows.append(f"| {kind} | {len(of_kind)} | | | | | | | {places:.1%} |")
            continue
        cells = []
        for k in (1, K):
            alone, mixed = (
                np.mean([any(path in one.known.answers for path, _ in hits[:k]) for one, hits in pairs])
                for pairs in ([(one, one.alone) for one in of_kind], [(one, one.mixed) for one in of_kind])
            )
            cells.append(f"{alone:.3f} | {mixed:.3f} | {mixed / alone:.0%}")
        rows.append(f"| {kind} | {len(of_kind)} | {' | '.join(cells)} | {places:.1%} |")
    wanted = "Wanted: shares of at least 90%, long texts at most 5% of the places."
    return "\n".join(rows) + f"\n\n{wanted}\n"


def chance_table(answered: Sequence[Answered]) -> str:
    """Return how well the best hit's probability tells queries with an answer from queries without one."""
    without = {kind: [one for one in answered if one.known.kind == kind] for kind in ("nonsense", "absent class")}
    rows = ["| AUC of the best hit | nonsense | absent classes | both |", "| --- | --- | --- | --- |"]
    kinds = [kind for kind in dict.fromkeys(one.known.kind for one in answered) if kind not in without]
    for name, chosen, hits in (
        ("class name -> picture", ["class name"], _alone),
        ("caption -> picture", ["caption"], _alone),
        *((f"{kind}, all modalities", [kind], _mixed) for kind in kinds),
        ("all, all modalities", kinds, _mixed),
        ("all but captions, all modalities", [kind for kind in kinds if kind != "caption"], _mixed),
    ):
        found = [hits(one) for one in answered if one.known.kind in chosen]
        noise = [[hits(one) for one in group] for group in without.values()]
        cells = [area(found, group) for group in (*noise, [value for group in noise for value in group])]
        rows.append(f"| {name} | {' | '.join(f'{cell:.3f}' for cell in cells)} |")
    return "\n".join(rows) + "\n\nWanted: at least .95 for text -> picture, .90 for all.\n"


def _alone(one: Answered) -> float:
    return one.alone[0][1] if one.alone else 0.0


def _mixed(one: Answered) -> float:
    return one.mixed[0][1] if one.mixed else 0.0


def area(found: Sequence[float], noise: Sequence[float]) -> float:
    """Return the area under the ROC curve: how often a value of `found` is above one of `noise`; ties count half."""
    values = np.sort(np.array(noise))
    below, up_to = (np.searchsorted(values, np.array(found), side=side) for side in ("left", "right"))
    return float(np.mean((below + up_to) / 2)) / len(values)


def reliability_table(answered: Sequence[Answered]) -> str:
    """Return the share of answers among hits of each decile of the probability, beside the mean probability."""
    rows = [
        "| probability | hits | mean | answers | difference | hits, not fitted | mean | answers | difference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    groups = [_judged(answered, lambda _half: True), _judged(answered, lambda half: half != FITTED_HALF)]
    for low, high in itertools.pairwise(DECILES):
        cells = []
        for stated, right in groups:
            mask = (stated >= low) & ((stated < high) | (high == 1.0))
            if not mask.any():
                cells.append("0 | | | ")
                continue
            mean, share = float(stated[mask].mean()), float(right[mask].mean())
            cells.append(f"{int(mask.sum())} | {mean:.3f} | {share:.3f} | {share - mean:+.3f}")
        rows.append(f"| {low:.1f} to {high:.1f} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n\nWanted: differences of at most .05.\n"


def _judged(
    answered: Sequence[Answered], takes: Callable[[int], bool]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the stated probability of each hit, and whether it is an answer."""
    judged = [
        (probability, path in one.known.answers or path in one.known.also)
        for one in answered
        if takes(one.known.half)
        for path, probability in one.mixed
    ]
    stated, right = zip(*judged, strict=True)
    return np.array(stated), np.array(right)


def identical_line(store: Store, folder: EverydayFolder) -> str:
    """Return how often a file of the folder finds itself, or an equal file, first."""
    first = 0
    for path in folder.same:
        query = bs.audio(path) if path.parent.name == "sounds" else bs.image(path)
        (hit,) = store.search(query, k=1, include_query=True)
        first += hit.path.read_bytes() == path.read_bytes()
    return f"An identical file is first for {first} of {len(folder.same)} files (wanted: all).\n"


if __name__ == "__main__":
    main()
