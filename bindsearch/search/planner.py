"""Planner: selects a search strategy for each partition; a plan depends only on the query and the facts.

Each rule in RULES proposes a strategy with its cost; `choose` takes the cheapest that reaches the target recall.
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
    rerank_depth,
)
from bindsearch.search.query import Query

SPARE_ROWS = 16
"""Rows fetched in addition to k, because several segments may belong to one item."""

SPARE_ITEMS = 8
"""Items ranked in addition to k, because copies may be folded; with more copies, the search is repeated for more."""

GATHER_BYTES = 32 * 2**20
"""Maximum size in bytes of the copy of gathered rows."""

UNMEASURED_RERANK = 1000
"""Candidates scored exactly without a measured operating point.

On 150,000 real vectors, 400 candidates from all lists gave a recall of 0.99 across modalities."""

GPU_WIDTH = 2048
"""Maximum number of candidates and of probes of FAISS on a GPU."""

GPU_MIN_SELECTIVITY = 0.1
"""Minimum share of rows that must match the filter for a GPU search, which filters afterwards."""

Rule = Callable[[Query, PlanFacts, PartitionFacts], PartitionStep | None]


@dataclass(frozen=True)
class ProbeSetting:
    """Settings of an index search.

    Attributes:
        probes: As in PartitionStep; so are `rerank`, `recall` and `point`.
        rerank: Number of candidates scored exactly.
        recall: Measured recall; None if unknown.
        point: Operating point that the settings are from; None if nothing was measured.
        notes: Reasons for the settings.
    """

    probes: int
    rerank: int
    recall: float | None
    point: OperatingPoint | None
    notes: tuple[str, ...] = ()


def make_plan(query: Query, facts: PlanFacts, *, force: Strategy | None = None) -> Plan:
    """Return the plan for a query, with one step per target partition in the order of `facts`.

    Args:
        query: The query.
        facts: Everything else that the plan depends on.
        force: Strategy to use wherever a rule proposes it, regardless of cost; for comparing strategies.
    """
    targets = [partition for partition in facts.partitions if partition.modality in query.to]
    steps = tuple(plan_partition(query, facts, partition, force) for partition in targets)
    return Plan(
        terms=facts.terms,
        filter=facts.filter,
        partitions=steps,
        ranking=query.ranking,
        k=query.k,
        diversity=query.diversity,
        estimate_ms=sum(step.estimate_ms for step in steps),
        notes=facts.notes,
        min_match=query.min_match,
        copies=query.copies,
        spare=0 if query.copies else SPARE_ITEMS,
    )


def plan_partition(
    query: Query, facts: PlanFacts, partition: PartitionFacts, force: Strategy | None = None
) -> PartitionStep:
    """Return the step for one partition: SKIP if no row matches, else the best proposal of the rules.

    Args:
        query: The query.
        facts: Everything else that the plan depends on.
        partition: Properties of the partition.
        force: Strategy to use if a rule proposes it.
    """
    if not partition.matching_rows:
        reason = f"no row of {partition.live_rows:,} matches" if partition.live_rows else "the partition is empty"
        return _exact_step(Strategy.SKIP, query, facts, partition, 0.0, reason)
    proposals = [step for rule in RULES if (step := rule(query, facts, partition))]
    return choose(proposals, partition, force)


def choose(proposals: list[PartitionStep], partition: PartitionFacts, force: Strategy | None = None) -> PartitionStep:
    """Return the cheapest proposal that reaches the index's target recall; of equal ones, the first.

    A proposal of unknown recall counts as reaching it, because its settings are wider instead.

    Args:
        proposals: Steps proposed by the rules, at least one.
        partition: Properties of the partition.
        force: Strategy to use if it is proposed.
    """
    target = partition.index.recall if partition.index else 0.0
    reaching = [step for step in proposals if step.recall is None or step.recall >= target]
    forced = [step for step in proposals if step.strategy is force]
    step = min(forced or reaching or proposals, key=lambda step: step.estimate_ms)
    alternatives = tuple((proposal.strategy, proposal.estimate_ms) for proposal in proposals)
    below_target = [step for step in proposals if step not in reaching]
    reason = _reason(step, alternatives, below_target, partition, target, forced=bool(forced))
    return replace(step, alternatives=alternatives, reason=reason)


def propose_gather(query: Query, facts: PlanFacts, partition: PartitionFacts) -> PartitionStep | None:
    """Propose to fetch and score each matching row; not if all rows match, as a scan is faster then."""
    if not _masked(partition) or partition.matching_rows * _row_bytes(partition.dim) > GATHER_BYTES:
        return None
    cost_ns = facts.costs.call_ns + _gather_ns(facts.costs, partition.matching_rows, partition.dim)
    return _exact_step(Strategy.GATHER, query, facts, partition, cost_ns)


def propose_scan(query: Query, facts: PlanFacts, partition: PartitionFacts) -> PartitionStep | None:
    """Propose to score all rows in order, with a bitmap of the matching ones."""
    cost_ns = _scan_ns(facts.costs, partition, partition.rows)
    return _exact_step(Strategy.SCAN, query, facts, partition, cost_ns)


def propose_probe(query: Query, facts: PlanFacts, partition: PartitionFacts) -> PartitionStep | None:
    """Propose to scan codes in the nearest lists with a bitmap, score the best exactly, and scan the tail."""
    index = _usable_index(partition)
    if index is None or index.device.startswith("cuda") or index.form is IndexForm.EXACT:
        return None
    setting = choose_setting(query, facts, partition, index)
    return _step(Strategy.PROBE, query, facts, partition, setting, _probe_ns(facts, partition, index, setting))


def propose_probe_wide(query: Query, facts: PlanFacts, partition: PartitionFacts) -> PartitionStep | None:
    """Propose a GPU search, which cannot use a bitmap: more candidates by the filter's selectivity, filtered later."""
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
        note = f"GPU searches cannot filter: {1 / share:.3g}x the candidates, filtered afterwards, recall unknown"
        recall, notes = None, (*notes, note)
    setting = ProbeSetting(probes, width, recall, setting.point, notes)
    cost_ns = _probe_wide_ns(facts, partition, index, setting)
    return _step(Strategy.PROBE_WIDE, query, facts, partition, setting, cost_ns)


RULES: tuple[Rule, ...] = (propose_gather, propose_scan, propose_probe, propose_probe_wide)
"""Rules, each of which may propose a step."""


def wanted_rows(query: Query, facts: PlanFacts, partition: PartitionFacts) -> int:
    """Return the number of rows to fetch at first: those asked for, SPARE_ROWS, and the query's own, excluded later."""
    return min(partition.matching_rows, rerank_depth(query.k, query.diversity) + SPARE_ROWS + facts.excluded)


def depth_of_shard(depth: int, shards: int) -> int:
    """Return how many of the best results of all shards are in one shard.

    k / S + 4 sqrt(k / S): four standard deviations above the mean number, whose distribution is taken as Poisson's.
    """
    mean = depth / shards
    return min(depth, math.ceil(mean + 4 * math.sqrt(mean)))


def choose_setting(query: Query, facts: PlanFacts, partition: PartitionFacts, index: IndexFacts) -> ProbeSetting:
    """Return probes and rerank for a query on an index.

    If the query is in the distribution of the partition's vectors, the operating points of that modality apply. Else
    the settings are those of the slowest source modality of the query.

    Args:
        query: The query.
        facts: Everything else that the plan depends on.
        partition: Properties of the partition.
        index: Properties of its index.
    """
    if index.form is IndexForm.EXACT:
        return ProbeSetting(1, wanted_rows(query, facts, partition), 1.0, None)
    measured = {point.source for point in index.points}
    if partition.in_distribution and partition.modality.value in measured:
        setting = _setting_of(partition.modality.value, query, facts, partition, index)
        return replace(setting, notes=(f"the query resembles {partition.modality} vectors", *setting.notes))
    guess = MIXED if partition.predicted_source is None else partition.predicted_source.value
    query_sources = list(dict.fromkeys(term.source.value if term.source else guess for term in facts.terms))
    sources = list(dict.fromkeys(_measured_source(source, query_sources, measured) for source in query_sources))
    settings = [_setting_of(source, query, facts, partition, index) for source in sources]
    setting = max(settings, key=lambda setting: _probe_ns(facts, partition, index, setting))
    if partition.predicted_source is not None and any(term.source is None for term in facts.terms):
        setting = replace(setting, notes=(f"the query resembles {partition.predicted_source} queries", *setting.notes))
    if len(query_sources) == 1:
        return setting
    return replace(setting, notes=(f"settings of the slowest source ({', '.join(query_sources)})", *setting.notes))


def _measured_source(source: str, query_sources: list[str], measured: set[str]) -> str:
    """Return the source whose points apply: that of mixed queries if a source of a composed query is not measured."""
    return MIXED if source not in measured and len(query_sources) > 1 and MIXED in measured else source


def _setting_of(
    source: str, query: Query, facts: PlanFacts, partition: PartitionFacts, index: IndexFacts
) -> ProbeSetting:
    """Return the setting from the operating points of one source; all lists if it has none."""
    fetch_rows = wanted_rows(query, facts, partition)
    points = _points_for(index.points, source, rerank_depth(query.k, query.diversity))
    if not points:
        wide = min(partition.matching_rows, max(UNMEASURED_RERANK, 10 * fetch_rows))
        note = f"not measured for {source} queries: probes all lists"
        return ProbeSetting(max(index.lists, 1), wide, None, None, (note,))
    share = partition.matching_rows / partition.live_rows
    point, probes = _at_share(points, share, index.lists)
    notes = []
    if point.fallback_source:
        notes.append(f"{source} queries use the operating points of {point.fallback_source}")
    if probes > point.probes:
        notes.append(f"probes raised from {point.probes} to {probes}: the filter matches {_percent(partition)}")
    if partition.matching_rows < partition.live_rows:
        notes.append("recall if the filter does not depend on the query; if it excludes what is near, all are compared")
    rerank: int = point.rerank
    recall: float | None = point.recall
    depth = rerank_depth(query.k, query.diversity)
    if depth > point.k:
        rerank = math.ceil(point.rerank * depth / point.k)
        recall = None
        notes.append(f"measured up to {point.k} results: rerank increased in proportion")
    if facts.shards > 1 and (of_shard := depth_of_shard(depth, facts.shards)) < depth:
        fewer, _ = _at_share(_points_for(index.points, source, of_shard), share, index.lists)
        rerank_of_shard = math.ceil(fewer.rerank * max(1.0, of_shard / fewer.k))
        if rerank_of_shard < rerank:
            notes.append(f"shard of {facts.shards}: rerank {rerank_of_shard} instead of {rerank}")
            rerank = rerank_of_shard
    return ProbeSetting(probes, min(partition.matching_rows, max(rerank, fetch_rows)), recall, point, tuple(notes))


def _points_for(points: tuple[OperatingPoint, ...], source: str, depth: int) -> list[OperatingPoint]:
    """Return the points of a source for the smallest k of at least `depth`; if there is none, for the largest k."""
    own = [point for point in points if point.source == source]
    ks = {point.k for point in own}
    k = min((k for k in ks if k >= depth), default=max(ks, default=0))
    return [point for point in own if point.k == k]


def _at_share(points: list[OperatingPoint], share: float, lists: int) -> tuple[OperatingPoint, int]:
    """Return the point and probes for a filter that matches `share` of the rows.

    That is the point measured at the next smaller share, or the point at the next greater share with probes increased
    so that as many matching rows are visited, whichever needs fewer probes.
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
    """Return the cost of scanning `rows` rows, assuming the share of matching rows of the whole partition."""
    share = partition.matching_rows / partition.rows
    more_ns = max(0.0, costs.gather_ns_per_byte - costs.scan_ns_per_byte)
    row_ns = costs.scan_ns_per_byte + _gather_share(partition) * more_ns
    mask_ns = rows * costs.mask_ns_per_row if _masked(partition) else 0.0
    return costs.call_ns + mask_ns + rows * share * _row_bytes(partition.dim) * row_ns


def _gather_share(partition: PartitionFacts) -> float:
    """Return the position of a scan's cost per matching row between scan (0) and gather (1).

    The first row of a run of consecutive rows cannot be prefetched. Fitted to times at d = 1024: filters that match
    99, 90, 75, 50% at random gave 0.15, 0.33, 0.73, 1; runs of 50 rows gave 0.2.
    """
    runs = (
        partition.matching_rows * (1 - partition.matching_rows / partition.rows)
        if partition.runs is None
        else partition.runs
    )
    return min(1.0, math.sqrt(2.0 * runs / partition.matching_rows)) if _masked(partition) else 0.0


def _gather_ns(costs: UnitCosts, rows: int, dim: int) -> float:
    return rows * _row_bytes(dim) * costs.gather_ns_per_byte


def _tail_ns(costs: UnitCosts, partition: PartitionFacts, index: IndexFacts) -> float:
    tail = _tail(partition, index)
    return _scan_ns(costs, partition, tail) if tail else 0.0


def _probe_ns(facts: PlanFacts, partition: PartitionFacts, index: IndexFacts, setting: ProbeSetting) -> float:
    """Return the cost of a probe: one call for the candidates, one for scoring them, and the tail."""
    costs = facts.costs
    visited = setting.probes / max(index.lists, 1) * index.n
    code_ns = index.code_bytes * costs.code_ns_per_byte + (costs.mask_ns_per_row if _masked(partition) else 0.0)
    index_ns = 2 * costs.call_ns + setting.probes * costs.probe_ns + visited * code_ns
    return index_ns + _gather_ns(costs, setting.rerank, partition.dim) + _tail_ns(costs, partition, index)


def _probe_wide_ns(facts: PlanFacts, partition: PartitionFacts, index: IndexFacts, setting: ProbeSetting) -> float:
    """Return the cost of a GPU search: the latency of the point, measured there, plus the wider rerank on the CPU."""
    if setting.point is None:
        return _probe_ns(facts, partition, index, setting)
    more_rows = max(0, setting.rerank - setting.point.rerank)
    more_ns = _gather_ns(facts.costs, more_rows, partition.dim) + _tail_ns(facts.costs, partition, index)
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
        tail=_tail(partition, index) if index else 0,
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
    alternatives: tuple[tuple[Strategy, float], ...],
    below_target: list[PartitionStep],
    partition: PartitionFacts,
    target: float,
    *,
    forced: bool,
) -> str:
    """Return the reasons for a step: its alternatives, what was not possible, and notes on its settings."""
    index = partition.index
    costs = ", ".join(f"{strategy} {format_ms(estimate_ms)}" for strategy, estimate_ms in alternatives)
    if forced:
        parts = [f"forced: {costs}"]
    elif len(alternatives) > 1:
        parts = [f"chosen by cost and recall: {costs}" if below_target else f"chosen by cost: {costs}"]
    else:
        parts = [f"exact: {partition.rows:,} rows take {format_ms(step.estimate_ms)}"]
    parts += [f"{other.strategy} reaches recall {other.recall:.3f}, target {target:g}" for other in below_target]
    if partition.index_error:
        parts.append(f"the index is not used: {partition.index_error}")
    elif index and index.device.startswith("cuda") and Strategy.PROBE_WIDE not in dict(alternatives):
        parts.append(_gpu_refusal(partition))
    return "; ".join([*parts, step.reason] if step.reason else parts)


def _gpu_refusal(partition: PartitionFacts) -> str:
    if partition.matching_rows == partition.live_rows:
        return f"a GPU returns at most {GPU_WIDTH:,} candidates: too few"
    return f"GPU searches cannot filter, and {_percent(partition)} of {GPU_WIDTH:,} candidates are too few"


def format_ms(ms: float) -> str:
    """Format milliseconds with two or more digits, such as 0.92 ms, 5.1 ms, 36 ms."""
    return f"{ms:.0f} ms" if ms >= 10 or ms == 0 else f"{ms:.1f} ms" if ms >= 1 else f"{ms:.2f} ms"


def _usable_index(partition: PartitionFacts) -> IndexFacts | None:
    return None if partition.index_error else partition.index


def _masked(partition: PartitionFacts) -> bool:
    """Return whether a bitmap is needed, because of a filter or deleted rows."""
    return partition.matching_rows < partition.rows


def _tail(partition: PartitionFacts, index: IndexFacts) -> int:
    return max(0, partition.rows - index.n)


def _row_bytes(dim: int) -> int:
    return 2 * dim


def _percent(partition: PartitionFacts) -> str:
    return f"{100 * partition.matching_rows / partition.live_rows:.2g}%"
