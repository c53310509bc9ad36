"""Planner: which way each partition is searched. Pure: a plan depends on the query and the facts alone.

Each rule of RULES proposes one way to search a partition, with its cost; `choose` takes the cheapest that finds enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from bindsearch.indexes.types import MIXED, IndexForm, OperatingPoint, UnitCosts
from bindsearch.search.plan import (
    IndexFacts,
    PartitionFacts,
    PartitionStep,
    Plan,
    PlanFacts,
    Strategy,
    TermStep,
    rerank_depth,
)
from bindsearch.search.query import Query

SPARE_ROWS = 16
"""Rows fetched beside the k asked for: several segments may belong to one item."""

GATHER_BYTES = 32 * 2**20
"""Rows are gathered into one copy of no more bytes than this."""

UNMEASURED_RERANK = 1000
"""Candidates scored exactly where nothing was measured; on 150,000 real vectors 400 of all lists' gave a recall of .99
across modalities."""

GPU_WIDTH = 2048
"""Candidates and probes that FAISS gives at most on a GPU."""

GPU_MIN_SELECTIVITY = 0.1
"""A filter that keeps less is not answered from a GPU's candidates."""

Rule = Callable[[Query, PlanFacts, PartitionFacts], PartitionStep | None]


@dataclass(frozen=True)
class ProbeSetting:
    """Settings of searching an index: as the fields of PartitionStep; `notes`: why, in words."""

    probes: int
    rerank: int
    recall: float | None
    point: OperatingPoint | None
    notes: tuple[str, ...] = ()


def make_plan(query: Query, facts: PlanFacts, *, force: Strategy | None = None) -> Plan:
    """The plan for `query`: one step for each partition of its targets, in the order of `facts`.

    `force`: take this strategy wherever a rule proposes it, whatever it costs; for comparing strategies.
    """
    targets = [partition for partition in facts.partitions if partition.modality in query.to]
    steps = tuple(plan_partition(query, facts, partition, force) for partition in targets)
    terms = zip(facts.labels, facts.sources, facts.weights, facts.cost_notes, strict=True)
    return Plan(
        terms=tuple(TermStep(*term) for term in terms),
        filter=facts.filter,
        partitions=steps,
        ranking=query.ranking,
        k=query.k,
        diversity=query.diversity,
        estimate_ms=sum(step.estimate_ms for step in steps),
        notes=facts.notes,
    )


def plan_partition(
    query: Query, facts: PlanFacts, partition: PartitionFacts, force: Strategy | None = None
) -> PartitionStep:
    """The step for one partition: none where nothing is kept, else the best of what the rules propose."""
    if not partition.matching_rows:
        reason = f"the filter keeps none of {partition.live_rows:,} rows" if partition.live_rows else "it holds no rows"
        return _exact_step(Strategy.SKIP, query, facts, partition, 0.0, reason)
    proposals = [step for rule in RULES if (step := rule(query, facts, partition))]
    return choose(proposals, partition, force)


def choose(proposals: list[PartitionStep], partition: PartitionFacts, force: Strategy | None = None) -> PartitionStep:
    """The cheapest proposal that reaches the recall that the index was tuned for, the first one of equals.

    One whose recall is not known counts as reaching it: such a one is made wider instead.
    """
    wanted = partition.index.recall if partition.index else 0.0
    reaching = [step for step in proposals if step.recall is None or step.recall >= wanted]
    forced = [step for step in proposals if step.strategy is force]
    step = min(forced or reaching or proposals, key=lambda step: step.estimate_ms)
    considered = tuple((proposal.strategy, proposal.estimate_ms) for proposal in proposals)
    short = [step for step in proposals if step not in reaching]
    reason = _reason(step, considered, short, partition, wanted, forced=bool(forced))
    return replace(step, alternatives=considered, reason=reason)


def propose_gather(query: Query, facts: PlanFacts, partition: PartitionFacts) -> PartitionStep | None:
    """Fetch and score each row that the filter keeps; where all are kept that is the scan, only slower."""
    if not _masked(partition) or partition.matching_rows * _row_bytes(partition.dim) > GATHER_BYTES:
        return None
    cost_ns = facts.costs.call_ns + _gather_ns(facts.costs, partition.matching_rows, partition.dim)
    return _exact_step(Strategy.GATHER, query, facts, partition, cost_ns)


def propose_scan(query: Query, facts: PlanFacts, partition: PartitionFacts) -> PartitionStep | None:
    """Score all rows in order; a bitmap leaves out those not kept."""
    cost_ns = _scan_ns(facts.costs, partition, partition.rows)
    return _exact_step(Strategy.SCAN, query, facts, partition, cost_ns)


def propose_probe(query: Query, facts: PlanFacts, partition: PartitionFacts) -> PartitionStep | None:
    """Scan codes in the nearest lists under a bitmap, score the best exactly, scan the tail."""
    index = _usable_index(partition)
    if index is None or index.device.startswith("cuda") or index.form is IndexForm.EXACT:
        return None
    setting = choose_setting(query, facts, partition, index)
    return _step(Strategy.PROBE, query, facts, partition, setting, _probe_ns(facts, partition, index, setting))


def propose_probe_wide(query: Query, facts: PlanFacts, partition: PartitionFacts) -> PartitionStep | None:
    """On a GPU, which takes no bitmap: as many more candidates as the filter drops of them, filtered afterwards."""
    index = _usable_index(partition)
    if index is None or not index.device.startswith("cuda"):
        return None
    share = partition.matching_rows / partition.rows
    setting = choose_setting(query, facts, replace(partition, matching_rows=partition.live_rows), index)
    width = math.ceil(max(setting.rerank, wanted_rows(query, facts, partition)) / share)
    width = min(width, partition.rows)
    if share < GPU_MIN_SELECTIVITY or width > GPU_WIDTH:
        return None
    probes = min(setting.probes, GPU_WIDTH)
    recall, notes = setting.recall, setting.notes
    if partition.matching_rows < partition.live_rows and index.form is not IndexForm.EXACT:
        note = f"a GPU takes no filter: {1 / share:.3g}x the candidates, filtered afterwards, recall not measured so"
        recall, notes = None, (*notes, note)
    setting = ProbeSetting(probes, width, recall, setting.point, notes)
    cost_ns = _probe_wide_ns(facts, partition, index, setting)
    return _step(Strategy.PROBE_WIDE, query, facts, partition, setting, cost_ns)


RULES: tuple[Rule, ...] = (propose_gather, propose_scan, propose_probe, propose_probe_wide)
"""Ways to search a partition, each of which may propose a step."""


def wanted_rows(query: Query, facts: PlanFacts, partition: PartitionFacts) -> int:
    """Rows fetched at first: those asked for, some to spare, and the query's own ones that are then left out."""
    return min(partition.matching_rows, rerank_depth(query.k, query.diversity) + SPARE_ROWS + facts.excluded)


def choose_setting(query: Query, facts: PlanFacts, partition: PartitionFacts, index: IndexFacts) -> ProbeSetting:
    """Probes and rerank of the dearest of the query's sources; of the partition's own where the query lies inside."""
    if index.form is IndexForm.EXACT:
        return ProbeSetting(1, wanted_rows(query, facts, partition), 1.0, None)
    measured = {point.source for point in index.points}
    if partition.in_distribution and partition.modality.value in measured:
        setting = _setting_of(partition.modality.value, query, facts, partition, index)
        return replace(setting, notes=(f"the query resembles the {partition.modality} vectors", *setting.notes))
    guess = MIXED if partition.predicted_source is None else partition.predicted_source.value
    asked = list(dict.fromkeys(source.value if source else guess for source in facts.sources))
    sources = list(dict.fromkeys(_stand_in(source, asked, measured) for source in asked))
    settings = [_setting_of(source, query, facts, partition, index) for source in sources]
    setting = max(settings, key=lambda setting: _probe_ns(facts, partition, index, setting))
    if partition.predicted_source is not None and None in facts.sources:
        setting = replace(setting, notes=(f"the query resembles {partition.predicted_source} queries", *setting.notes))
    if len(asked) == 1:
        return setting
    return replace(setting, notes=(f"slowest of {' + '.join(asked)}", *setting.notes))


def _stand_in(source: str, asked: list[str], measured: set[str]) -> str:
    """A source of a composed query that was not measured goes by the points of mixed queries."""
    return MIXED if source not in measured and len(asked) > 1 and MIXED in measured else source


def _setting_of(
    source: str, query: Query, facts: PlanFacts, partition: PartitionFacts, index: IndexFacts
) -> ProbeSetting:
    """The setting that the points of one source give; all lists where it has none."""
    want = wanted_rows(query, facts, partition)
    points = _points_for(index.points, source, rerank_depth(query.k, query.diversity))
    if not points:
        wide = min(partition.matching_rows, max(UNMEASURED_RERANK, 10 * want))
        return ProbeSetting(max(index.lists, 1), wide, None, None, (f"not measured for {source} queries: all lists",))
    point, probes = _at_share(points, partition.matching_rows / partition.live_rows, index.lists)
    notes = []
    if point.fallback_source:
        notes.append(f"{source} queries go by points of {point.fallback_source}")
    if probes > point.probes:
        notes.append(f"{point.probes} probes widened to {probes}: the filter keeps {_percent(partition)}")
    rerank: int = point.rerank
    recall: float | None = point.recall
    if rerank_depth(query.k, query.diversity) > point.k:
        rerank = math.ceil(point.rerank * rerank_depth(query.k, query.diversity) / point.k)
        recall = None
        notes.append(f"measured up to {point.k} results: rerank scaled up")
    return ProbeSetting(probes, min(partition.matching_rows, max(rerank, want)), recall, point, tuple(notes))


def _points_for(points: tuple[OperatingPoint, ...], source: str, depth: int) -> list[OperatingPoint]:
    """The points of a source for the least number of results that covers `depth`, else for the most there is."""
    own = [point for point in points if point.source == source]
    ks = {point.k for point in own}
    k = min((k for k in ks if k >= depth), default=max(ks, default=0))
    return [point for point in own if point.k == k]


def _at_share(points: list[OperatingPoint], share: float, lists: int) -> tuple[OperatingPoint, int]:
    """The point and probes for a filter that keeps `share`.

    Either the point measured at the next smaller share, or that of the next greater one with so many more probes that
    as many kept rows are visited: what probes less.
    """
    below = max(
        (point for point in points if point.selectivity <= share), key=lambda point: point.selectivity, default=None
    )
    above = min(
        (point for point in points if point.selectivity > share), key=lambda point: point.selectivity, default=None
    )
    settings = [(below, below.probes)] if below else []
    if above:
        settings.append((above, math.ceil(above.probes * above.selectivity / share)))
    point, probes = min(settings, key=lambda setting: (setting[1], setting[0].rerank))
    return point, max(1, min(probes, lists))


def _scan_ns(costs: UnitCosts, partition: PartitionFacts, rows: int) -> float:
    """Of scoring `rows` of the partition in order, as many of them kept as of all."""
    share = partition.matching_rows / partition.rows
    more_ns = max(0.0, costs.gather_ns_per_byte - costs.scan_ns_per_byte)
    row_ns = costs.scan_ns_per_byte + _apart(partition) * more_ns
    mask_ns = rows * costs.mask_ns_per_row if _masked(partition) else 0.0
    return costs.call_ns + mask_ns + rows * share * _row_bytes(partition.dim) * row_ns


def _apart(partition: PartitionFacts) -> float:
    """Return how far a scan's kept rows cost what gathered ones do, 0..1: the first of a stretch cannot be read ahead.

    Fitted to times at d = 1024: filters that keep 99, 90, 75, 50% at random gave .15, .33, .73, 1; stretches of 50
    rows gave .2.
    """
    runs = (
        partition.matching_rows * (1 - partition.matching_rows / partition.rows)
        if partition.runs is None
        else partition.runs
    )
    return min(1.0, math.sqrt(2.0 * runs / partition.matching_rows)) if _masked(partition) else 0.0


def _gather_ns(costs: UnitCosts, rows: int, dim: int) -> float:
    return rows * _row_bytes(dim) * costs.gather_ns_per_byte


def _tail_ns(costs: UnitCosts, partition: PartitionFacts) -> float:
    tail = _tail(partition)
    return _scan_ns(costs, partition, tail) if tail else 0.0


def _probe_ns(facts: PlanFacts, partition: PartitionFacts, index: IndexFacts, setting: ProbeSetting) -> float:
    """Two calls: one for the candidates and one for scoring them."""
    costs = facts.costs
    visited = setting.probes / max(index.lists, 1) * index.n
    code_ns = index.code_bytes * costs.code_ns_per_byte + (costs.mask_ns_per_row if _masked(partition) else 0.0)
    index_ns = 2 * costs.call_ns + setting.probes * costs.probe_ns + visited * code_ns
    return index_ns + _gather_ns(costs, setting.rerank, partition.dim) + _tail_ns(costs, partition)


def _probe_wide_ns(facts: PlanFacts, partition: PartitionFacts, index: IndexFacts, setting: ProbeSetting) -> float:
    """Unit costs are the CPU's: the GPU's time is that of the point, measured there, and the wider rerank's."""
    if setting.point is None:
        return _probe_ns(facts, partition, index, setting)
    more_rows = max(0, setting.rerank - setting.point.rerank)
    more_ns = _gather_ns(facts.costs, more_rows, partition.dim) + _tail_ns(facts.costs, partition)
    return setting.point.latency_ms * 1e6 + more_ns


def _exact_step(
    strategy: Strategy, query: Query, facts: PlanFacts, partition: PartitionFacts, cost_ns: float, reason: str = ""
) -> PartitionStep:
    setting = ProbeSetting(0, 0, 1.0, None, (reason,) if reason else ())
    return _step(strategy, query, facts, partition, setting, cost_ns)


def _step(
    strategy: Strategy, query: Query, facts: PlanFacts, partition: PartitionFacts, setting: ProbeSetting, cost_ns: float
) -> PartitionStep:
    index = partition.index if strategy in (Strategy.PROBE, Strategy.PROBE_WIDE) else None
    return PartitionStep(
        modality=partition.modality,
        strategy=strategy,
        fetch_rows=wanted_rows(query, facts, partition),
        matching_rows=partition.matching_rows,
        rows=partition.rows,
        tail=_tail(partition) if index else 0,
        probes=setting.probes,
        lists=index.lists if index else 0,
        rerank=setting.rerank,
        recall=setting.recall,
        estimate_ms=cost_ns / 1e6,
        reason="; ".join(setting.notes),
        live_rows=partition.live_rows,
        point=setting.point,
    )


def _reason(
    step: PartitionStep,
    considered: tuple[tuple[Strategy, float], ...],
    short: list[PartitionStep],
    partition: PartitionFacts,
    wanted: float,
    *,
    forced: bool,
) -> str:
    """Return why this step: what it was chosen from, what could not be done, and what its setting says."""
    prices = ", ".join(f"{strategy} {format_ms(estimate_ms)}" for strategy, estimate_ms in considered)
    if forced:
        parts = [f"forced, from {prices}"]
    elif len(considered) > 1:
        parts = [f"cheapest of {prices}" if not short else f"cheapest that finds enough of {prices}"]
    else:
        parts = [f"exact: {partition.rows:,} rows take {format_ms(step.estimate_ms)}"]
    parts += [f"{other.strategy} reaches {other.recall:.3f} of the {wanted:g} wanted" for other in short]
    if partition.index_error:
        parts.append(f"the index is not used: {partition.index_error}")
    elif partition.index and partition.index.device.startswith("cuda") and Strategy.PROBE_WIDE not in dict(considered):
        parts.append(_gpu_refusal(partition))
    return "; ".join([*parts, step.reason] if step.reason else parts)


def _gpu_refusal(partition: PartitionFacts) -> str:
    if partition.matching_rows == partition.live_rows:
        return f"a GPU gives {GPU_WIDTH:,} candidates at most: too few"
    return f"a GPU takes no filter, and {_percent(partition)} of its {GPU_WIDTH:,} candidates are too few"


def format_ms(ms: float) -> str:
    """Milliseconds in two or more digits: 0.92 ms, 5.1 ms, 36 ms."""
    return f"{ms:.0f} ms" if ms >= 10 or ms == 0 else f"{ms:.1f} ms" if ms >= 1 else f"{ms:.2f} ms"


def _usable_index(partition: PartitionFacts) -> IndexFacts | None:
    return None if partition.index_error else partition.index


def _masked(partition: PartitionFacts) -> bool:
    """Return whether a bitmap is needed: for a filter or for deleted rows."""
    return partition.matching_rows < partition.rows


def _tail(partition: PartitionFacts) -> int:
    return max(0, partition.rows - partition.index.n) if partition.index else 0


def _row_bytes(dim: int) -> int:
    return 2 * dim


def _percent(partition: PartitionFacts) -> str:
    return f"{100 * partition.matching_rows / partition.live_rows:.2g}%"
