"""Cases of the search benchmark: measurements and their limits."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from search_by_hand import HandFlat, HandIndex, HandSetting, merged_by_hand
from search_data import BenchFilter, Dataset, K, exact_top, image_filters, recall
from search_engine import BuildFigures, Engine, fill_store, key
from search_peers import Peer, Sweep, fastest, sweep, try_setting
from search_timing import Contender, Timed, time_in_turn

from bindsearch.indexes.parameters import choose_parameters
from bindsearch.indexes.types import IndexForm, IndexSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGE = 500_000
"""Vectors from which on the limits for a million apply instead of those for 150,000."""
ACROSS = ("text", "audio", "imu")
"""Sources of queries for images in the comparison with other systems."""
PEER_RECALL = 0.85
"""Minimum recall@10 of a peer's setting in the comparison."""
EQUAL_RECALL = 0.001
"""Maximum difference of a graph's recall within one modality from the engine's to count as equal."""
STRATEGIES = ("gather", "scan", "probe")
FRESH_RUNS = 5
FRESH = Path(__file__).with_name("search_fresh.py")
UNKNOWN_SETTING = HandSetting(probes=1, rerank=400)


@dataclass(frozen=True)
class Measured:
    """Result of one system in one case."""

    case: str
    timed: Timed


@dataclass(frozen=True)
class LimitCheck:
    """A limit and the measured value; `seen` and `limit` in `unit`."""

    what: str
    seen: float
    limit: float
    unit: str
    at_most: bool

    @property
    def met(self) -> bool:
        """Return whether the value is within the limit."""
        return self.seen <= self.limit if self.at_most else self.seen >= self.limit


@dataclass
class Bench:
    """One run: the data, the store (`engine` None: it is not measured), and the results so far."""

    data: Dataset
    folder: Path
    engine: Engine | None
    by_hand: bool
    rounds: int = 3
    measured: list[Measured] = field(default_factory=list)
    swept: list[Sweep] = field(default_factory=list)
    asked: list[LimitCheck] = field(default_factory=list)
    builds: dict[str, BuildFigures] = field(default_factory=dict)
    peer_build_s: dict[str, float] = field(default_factory=dict)
    hand: dict[str, HandIndex] = field(default_factory=dict)
    flat: dict[str, HandFlat] = field(default_factory=dict)
    truths: dict[tuple[str, str], NDArray[np.int64]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def large(self) -> bool:
        """Return whether the limits for a million vectors apply."""
        return self.data.n >= LARGE

    def truth(self, source: str, target: str) -> NDArray[np.int64]:
        """Return the rows of `target` nearest to the queries of `source`: int64 (nq, K)."""
        if (source, target) not in self.truths:
            queries = np.concatenate(list(self.data.queries.values()))
            (nearest,) = exact_top(queries, self.data.vectors[target])
            for name, part in zip(self.data.queries, np.split(nearest, len(self.data.queries)), strict=True):
                self.truths[name, target] = part
        return self.truths[source, target]

    def run(self, case: str, contenders: Sequence[Contender], source: str, truth: NDArray[np.int64]) -> list[Timed]:
        """Time contenders in turn and record the results."""
        return self.note_times(case, time_in_turn(contenders, self.data.queries[source], truth, self.rounds))

    def note_times(self, case: str, timings: list[Timed]) -> list[Timed]:
        """Record and print the results of contenders."""
        for timed in timings:
            self.measured.append(Measured(case, timed))
            print(
                f"{case}: {timed.system} {timed.setting}: recall {timed.recall:.3f}, {timed.p50_ms:.2f} ms", flush=True
            )
        return timings

    def note(self, text: str) -> None:
        """Record and print a remark."""
        self.notes.append(text)
        print(text, flush=True)

    def ask(self, what: str, seen: float, limit: float, unit: str, *, at_most: bool = True) -> None:
        """Record a figure with its limit."""
        self.asked.append(LimitCheck(what, seen, limit, unit, at_most))

    def hand_part(self, source: str, target: str) -> tuple[HandIndex, HandSetting] | HandFlat:
        """Return the partition by direct FAISS calls, with the settings of the engine's plan, or exact."""
        rows = self.data.vectors[target]
        parameters = choose_parameters(len(rows), rows.shape[1], IndexSettings())
        setting: HandSetting | None = UNKNOWN_SETTING
        if self.engine is not None:
            setting = self.engine.hand_setting(self.data.queries[source][0], target)
        if setting is None or parameters.form is IndexForm.EXACT:
            if target not in self.flat:
                self.flat[target] = HandFlat(rows)
            return self.flat[target]
        if self.engine is None:
            setting = HandSetting(parameters.lists, UNKNOWN_SETTING.rerank)
        if target not in self.hand:
            self.hand[target] = HandIndex(rows, parameters)
        return self.hand[target], setting


def pairs(bench: Bench) -> None:
    """Measure every source against every target: the engine and the same direct FAISS calls."""
    worst: tuple[float, str] = (1.0, "none")
    for target in bench.data.vectors:
        for source in bench.data.queries:
            timings = bench.run(
                f"{source} -> {target}", _ours(bench, source, target), source, bench.truth(source, target)
            )
            engine = _of("bindsearch", timings)
            if engine is None:
                continue
            worst = min(worst, (engine.recall, f"{source} -> {target}"))
            if target == "image":
                _ask_of_pair(bench, source, engine, _of("FAISS by hand", timings))
    if bench.engine is not None and bench.large:
        bench.ask(f"recall@10 of the worst pair, {worst[1]}", worst[0], 0.98, "", at_most=False)


def measure_merge(bench: Bench) -> None:
    """Measure every source against all modalities at once, ranked by cosine and by calibrated score."""
    for source, queries in bench.data.queries.items():
        truth = _merged_truth(bench, source)
        contenders = []
        if bench.engine is not None:
            contenders.append(bench.engine.contender(ranking="cosine"))
        if bench.by_hand:
            parts = {target: bench.hand_part(source, target) for target in bench.data.vectors}
            contenders.append(
                Contender(
                    "FAISS by hand",
                    "cosine",
                    partial(merged_by_hand, parts),
                    lambda hits: [key(*hit) for hit in hits],
                )
            )
        timings = bench.run(f"{source} -> all", contenders, source, truth)
        if bench.engine is None:
            continue
        exact = bench.engine.contender(strategy="scan")
        calibrated_truth = np.array([_padded(exact.rows(exact.ask(query))) for query in queries])
        timings[1:] = bench.run(f"{source} -> all", [bench.engine.contender()], source, calibrated_truth)
        if not bench.large:
            for timed, rank in zip((timings[0], timings[-1]), ("cosine", "z"), strict=True):
                bench.ask(f"{source} -> all six, {rank}: recall@10", timed.recall, 0.99, "", at_most=False)
                bench.ask(f"{source} -> all six, {rank}: p50", timed.p50_ms, 3, "ms")


def peers(bench: Bench, opened: Sequence[Peer]) -> None:
    """Measure others at their defaults and at their fastest setting with enough recall, in turn with the engine.

    Graphs are also measured at the recall of the engine.
    """
    for peer in opened:
        bench.peer_build_s[peer.system] = peer.build_s
    for source in (*ACROSS, "image"):
        truth = bench.truth(source, "image")
        equal = PEER_RECALL
        if bench.engine is not None:
            ours = try_recall(bench.engine.contender(to="image"), bench.data.queries[source], truth)
            equal = ours - EQUAL_RECALL
        contenders = [*_ours(bench, source, "image"), *_flat(bench, "image")]
        for peer in opened:
            wanted = equal if source == "image" else PEER_RECALL
            contenders += _settings_to_compare(bench, peer, source, truth, wanted)
            if source != "image" and peer.ladder:  # a graph, also at the recall of the engine
                contenders += _settings_to_compare(bench, peer, source, truth, equal)
        timings = bench.run(f"{source} -> image, beside others", contenders, source, truth)
        if (engine := _of("bindsearch", timings)) is not None:
            _ask_beside_others(bench, source, engine, timings)


def filters(bench: Bench) -> None:
    """Measure text -> image with filters: the plan and each strategy that could have been forced."""
    if bench.engine is None:
        return
    chosen = image_filters(bench.data)
    truths = exact_top(bench.data.queries["text"], bench.data.vectors["image"], [case.keeps for case in chosen])
    for case, truth in zip(chosen, truths, strict=True):
        ways = [None, *STRATEGIES]
        contenders = [bench.engine.contender(to="image", where=case.expression, strategy=way) for way in ways]
        planned, *forced = bench.run(f"text -> image, {case.name}", contenders, "text", truth)
        _ask_of_filter(bench, case, planned, forced)


def durability(bench: Bench, figures: BuildFigures) -> None:
    """Record how fast the store was filled and indexed."""
    bench.builds["store"] = figures
    if bench.large:
        bench.ask("vectors committed durably a second", figures.vectors_per_s, 10_000, "/s", at_most=False)
        bench.ask("building the indexes", figures.optimize_s / 60, 8, "min")


def fresh_process(bench: Bench, store: Path) -> None:
    """Measure memory and time to the first answer in processes of their own, with a warm page cache."""
    queries = bench.folder / "queries.npz"
    np.savez(queries, allow_pickle=False, **{name: asked[:20] for name, asked in bench.data.queries.items()})
    for path in store.rglob("*"):
        if path.is_file():
            path.read_bytes()
    opened = [_fresh("open", store, queries)["ms"] for _ in range(FRESH_RUNS)]
    measured = _fresh("memory", store, queries)
    a_vector, with_statistics = measured["pairs"] / bench.data.n, measured["merged"] / bench.data.n
    with_snapshot = measured["pairs_with_snapshot"] / bench.data.n
    times = ", ".join(f"{ms:.0f}" for ms in opened)
    bench.note(
        f"fresh processes: {times} ms from opening to the first answer; {a_vector:.0f} resident bytes a vector "
        f"beside the mapped rows after searches of every pair, {with_statistics:.0f} after mixed ones; "
        f"{with_snapshot:.0f} with the snapshot's mapped pages"
    )
    if bench.large:
        bench.ask("open to first answer, fresh process", statistics.median(opened), 150, "ms")
        bench.ask("resident bytes a vector beside the rows", a_vector, 200, "bytes")
        bench.ask("the same after searches of all modalities", with_statistics, 200, "bytes")


def pictures_only(bench: Bench) -> None:
    """Measure a store with images only: without texts to measure operating points with."""
    store = bench.folder / "pictures"
    bench.builds["pictures alone"] = fill_store(store, bench.data.only("image"))
    contender = Engine(store).contender(to="image")
    for source in ACROSS:
        case = f"{source} -> image, a store of pictures alone"
        (timed,) = bench.run(case, [contender], source, bench.truth(source, "image"))
        if source == "text":
            bench.ask(f"{case}: recall@10", timed.recall, 0.98, "", at_most=False)


def try_recall(contender: Contender, queries: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """Return recall@10 of a contender, without timing."""
    return recall([contender.rows(contender.ask(query)) for query in queries], truth)


def _flat(bench: Bench, target: str) -> list[Contender]:
    if not bench.by_hand:
        return []
    if target not in bench.flat:
        bench.flat[target] = HandFlat(bench.data.vectors[target])
    return [Contender("FAISS by hand", "exact fp16", bench.flat[target].search, lambda rows: rows[0].tolist())]


def _ours(bench: Bench, source: str, target: str) -> list[Contender]:
    contenders = []
    if bench.engine is not None:
        contenders.append(bench.engine.contender(to=target))
    if bench.by_hand:
        part = bench.hand_part(source, target)
        if isinstance(part, HandFlat):
            contenders += _flat(bench, target)
        else:
            index, setting = part
            name = f"{setting.probes} probes, rerank {setting.rerank}"
            contenders.append(
                Contender(
                    "FAISS by hand",
                    name,
                    lambda query: index.search(query, setting),
                    lambda rows: rows[0].tolist(),
                )
            )
    return contenders


def _ask_of_pair(bench: Bench, source: str, engine: Timed, hand: Timed | None) -> None:
    name = f"{source} -> image"
    if not bench.large and source in ACROSS:
        bench.ask(f"{name}: recall@10", engine.recall, 0.99, "", at_most=False)
        bench.ask(f"{name}: p50", engine.p50_ms, 1, "ms")
        if hand is not None:
            limit = max(1.3 * hand.p50_ms, hand.p50_ms + 0.3)
            bench.ask(f"{name}: p50 beside {hand.p50_ms:.2f} ms by hand (1.3x or + 0.3 ms)", engine.p50_ms, limit, "ms")
    if bench.large and source in ("text", "image"):
        bench.ask(f"{name}: p50", engine.p50_ms, 3 if source == "text" else 0.8, "ms")


def _ask_beside_others(bench: Bench, source: str, engine: Timed, timings: Sequence[Timed]) -> None:
    if source == "image":
        if (graph := _of("hnswlib", timings)) is not None:
            what = (
                f"image -> image: p50 / hnswlib's at {graph.setting} (recall {graph.recall:.3f}, {engine.recall:.3f})"
            )
            bench.ask(what, engine.p50_ms / graph.p50_ms, 1.3, "x")
        return
    for system, times in (("lancedb", 40), ("hnswlib", 5), ("usearch", 5)):
        others = [timed for timed in timings if timed.system == system and timed.setting != "defaults"]
        for timed in others:
            what = f"{source} -> image: {system}'s p50 at {timed.setting} (recall {timed.recall:.3f}) / ours"
            bench.ask(what, timed.p50_ms / engine.p50_ms, times, "x", at_most=False)


def _settings_to_compare(
    bench: Bench, peer: Peer, source: str, truth: NDArray[np.int64], wanted: float
) -> Iterator[Contender]:
    queries = bench.data.queries[source]
    tried = sweep(peer, source, queries, truth, wanted)
    if peer.default not in [attempt.setting for attempt in tried]:
        tried.append(try_setting(peer, source, peer.default, queries[:20], truth[:20]))
        if peer.system == "lancedb":
            yield peer.contender(peer.default)
    bench.swept += tried
    yield peer.contender(fastest(tried, wanted).setting)


def _ask_of_filter(bench: Bench, case: BenchFilter, planned: Timed, forced: Sequence[Timed]) -> None:
    limit = 1.0 if case.share <= 0.001 else 3.5 if case.share <= 0.01 else 7.0
    bench.ask(f"{case.name}: recall@10", planned.recall, 0.98, "", at_most=False)
    bench.ask(f"{case.name}: p50 (the first {planned.first_ms:.1f} ms)", planned.p50_ms, limit, "ms")
    good = [way for way in forced if way.recall >= 0.98]
    if good:
        best = min(good, key=lambda way: way.p50_ms)
        bench.ask(f"{case.name}: p50 / the best forced way's ({best.setting})", planned.p50_ms / best.p50_ms, 1.5, "x")


def _merged_truth(bench: Bench, source: str) -> NDArray[np.int64]:
    """Return keys of the nearest rows over all modalities by cosine: int64 (nq, K)."""
    queries = bench.data.queries[source]
    cosines, keys = [], []
    for target, rows in bench.data.vectors.items():
        nearest = bench.truth(source, target)
        cosines.append(np.einsum("qd,qkd->qk", queries, rows[nearest].astype(np.float32)))
        keys.append(key(target, 0) + nearest)
    order = np.argsort(-np.concatenate(cosines, axis=1), axis=1, kind="stable")[:, :K]
    return np.take_along_axis(np.concatenate(keys, axis=1), order, 1)


def _padded(rows: Sequence[int]) -> list[int]:
    return [*rows, *[-1] * (K - len(rows))]


def _of(system: str, timings: Sequence[Timed]) -> Timed | None:
    return next((timed for timed in timings if timed.system == system), None)


def _fresh(what: str, store: Path, queries: Path) -> dict[str, float]:
    command = [sys.executable, str(FRESH), what, str(store), str(queries)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    seen: dict[str, float] = json.loads(done.stdout)
    return seen
