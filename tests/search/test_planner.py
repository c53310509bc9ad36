"""The planner: what it chooses, why, and that it never takes a dearer way than it knows."""

import copy
import random
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindsearch.indexes.types import MIXED, IndexForm, OperatingPoint, UnitCosts
from bindsearch.search.plan import IndexFacts, PartitionFacts, PartitionStep, PlanFacts, Strategy, TermStep
from bindsearch.search.planner import GPU_WIDTH, RULES, format_ms, make_plan
from bindsearch.search.query import Query, Ranking, Term
from bindsearch.types import Modality

N = 420_000
QUERY = Query((Term("text", "a dog"),), to=(Modality.IMAGE,))
LEVELS = (1.0, 0.5, 0.1)


def point(source: str = "text", k: int = 10, kept: float = 1.0, probes: int = 64, rerank: int = 200) -> OperatingPoint:
    return OperatingPoint(source, k, kept, probes, rerank, recall=0.985, latency_ms=1.0)


POINTS = (
    *(point("text", 10, kept, probes) for kept, probes in zip(LEVELS, (128, 200, 480), strict=True)),
    *(point("text", 100, kept, probes, 600) for kept, probes in zip(LEVELS, (160, 260, 500), strict=True)),
    *(point("image", 10, kept, probes, 100) for kept, probes in zip(LEVELS, (16, 20, 60), strict=True)),
    *(point(MIXED, 10, kept, probes, 400) for kept, probes in zip(LEVELS, (200, 300, 512), strict=True)),
)
INDEX = IndexFacts(N, lists=512, code_bytes=128, points=POINTS)


def step_for(
    query: Query = QUERY,
    sources: tuple[Modality | None, ...] = (Modality.TEXT,),
    index: IndexFacts | None = INDEX,
    kept: int = N,
    excluded: int = 0,
    in_distribution: bool | None = None,
    rows: int = N,
    force: Strategy | None = None,
) -> PartitionStep:
    """Return the one step for an image partition."""
    partition = PartitionFacts(Modality.IMAGE, 1024, rows, rows, kept, index, in_distribution=in_distribution)
    facts = PlanFacts((partition,), tuple(TermStep("?", source, 1.0, "") for source in sources), excluded=excluded)
    return make_plan(query, facts, force=force).partitions[0]


@st.composite
def facts_and_queries(draw: st.DrawFn) -> tuple[Query, PlanFacts]:
    """Any query over partitions of any size, filter, index, points and machine."""
    rng = random.Random(draw(st.integers(0, 10**9)))
    partitions = tuple(any_partition(rng, modality) for modality in rng.sample(list(Modality), rng.randint(1, 4)))
    sources = tuple(rng.choice([*Modality, None]) for _ in range(rng.randint(1, 3)))
    costs = UnitCosts(*(value * rng.uniform(0.2, 5) for value in vars(UnitCosts()).values()))
    terms = tuple(TermStep(f"term {at}", source, 1.0, f"term {at}") for at, source in enumerate(sources))
    excluded = rng.choice([0, 0, 3, 200])
    facts = PlanFacts(partitions, terms, "x > 1", excluded, costs)
    k = rng.choice([1, 10, 37, 500])
    query = Query((Term("text", "a"),), k=k, ranking=rng.choice(list(Ranking)), diversity=rng.choice([0.0, 0.3]))
    return query, facts


def any_partition(rng: random.Random, modality: Modality) -> PartitionFacts:
    rows = int(10 ** rng.uniform(0, 6)) - 1
    living = rng.choice([rows, rng.randint(0, rows)])
    kept = rng.choice([living, rng.randint(0, living), living // 1000])
    if not rng.randint(0, 3):
        return PartitionFacts(modality, 512, rows, living, kept)
    lists = rng.choice([1, 64, 512])
    sources = rng.sample([*(source.value for source in Modality), MIXED], rng.randint(0, 8))
    points = tuple(
        OperatingPoint(source, k, level, rng.randint(1, lists), rng.randint(k, 900), rng.uniform(0.95, 1), 1.0)
        for source in sources
        for k in rng.choice([(10,), (10, 100)])
        for level in rng.choice([LEVELS, (1.0,), (1.0, 0.1)])
    )
    n = rng.choice([rows, rng.randint(0, rows)])
    device = rng.choice(["cpu", "cpu", "cuda:0"])
    form = IndexForm.EXACT if device != "cpu" and rng.randint(0, 1) else IndexForm.IVF_PQ
    trouble = rng.choice([None, None, None, "the file is damaged"])
    inside = rng.choice([None, True, False])
    return PartitionFacts(
        modality, 512, rows, living, kept, IndexFacts(n, lists, 64, points, device, form, 0.97), trouble, inside
    )


@settings(deadline=None, max_examples=300)
@given(facts_and_queries())
def test_no_way_that_finds_enough_is_cheaper_than_the_chosen(case: tuple[Query, PlanFacts]) -> None:
    query, facts = case
    chosen = make_plan(query, facts).partitions
    for strategy in Strategy:
        for step, forced, partition in zip(
            chosen, make_plan(query, facts, force=strategy).partitions, facts.partitions, strict=True
        ):
            wanted = partition.index.recall if partition.index else 0.0
            if forced.recall is None or forced.recall >= wanted:
                assert step.estimate_ms <= forced.estimate_ms
            assert step.recall is None or step.recall >= wanted


@settings(deadline=None, max_examples=300)
@given(facts_and_queries())
def test_every_step_can_be_run(case: tuple[Query, PlanFacts]) -> None:
    query, facts = case
    for partition, step in zip(facts.partitions, make_plan(query, facts).partitions, strict=True):
        assert (step.strategy is Strategy.SKIP) == (partition.matching_rows == 0)
        assert step.fetch_rows <= step.matching_rows == partition.matching_rows
        assert step.fetch_rows >= min(query.k, partition.matching_rows)
        assert step.estimate_ms >= 0
        assert step.reason
        if step.strategy in (Strategy.PROBE, Strategy.PROBE_WIDE):
            assert partition.index is not None
            assert partition.index_error is None
            assert partition.index.device.startswith("cuda") == (step.strategy is Strategy.PROBE_WIDE)
            assert 1 <= step.probes <= max(step.lists, 1)
            assert step.fetch_rows <= step.rerank <= partition.rows
            assert step.tail == partition.rows - partition.index.n
        else:
            assert step.recall == 1.0
            assert (step.probes, step.rerank, step.tail) == (0, 0, 0)


@settings(deadline=None, max_examples=60)
@given(facts_and_queries())
def test_planning_is_pure(case: tuple[Query, PlanFacts]) -> None:
    query, facts = case
    before = copy.deepcopy(facts)
    plan = make_plan(query, facts)
    assert plan == make_plan(query, facts)
    assert plan == make_plan(copy.deepcopy(query), before)
    assert facts == before


def test_only_target_modalities_are_planned_in_the_order_of_the_facts() -> None:
    partitions = tuple(PartitionFacts(modality, 8, 5, 5, 5) for modality in reversed(Modality))
    plan = make_plan(replace(QUERY, to=(Modality.TEXT, Modality.IMU)), PlanFacts(partitions))
    assert [step.modality for step in plan.partitions] == [Modality.IMU, Modality.TEXT]
    assert plan.estimate_ms == sum(step.estimate_ms for step in plan.partitions)


def test_a_probe_takes_the_point_of_the_query_s_source() -> None:
    assert step_for().point == POINTS[0]
    assert step_for(sources=(Modality.IMAGE,)).probes == 16
    assert step_for(sources=(None,)).probes == 200


def test_a_composed_query_takes_the_dearest_of_its_sources() -> None:
    step = step_for(sources=(Modality.IMAGE, Modality.TEXT))
    assert step.probes == 128
    assert "settings of the slowest source (image, text)" in step.reason


def test_a_source_of_a_composed_query_that_was_not_measured_goes_by_mixed_queries() -> None:
    assert step_for(sources=(Modality.IMAGE, Modality.IMU)).probes == 200


def test_a_query_inside_the_partition_takes_its_own_point() -> None:
    step = step_for(sources=(Modality.IMAGE, Modality.TEXT), in_distribution=True)
    assert step.probes == 16
    assert "the query resembles image vectors" in step.reason
    assert step_for(sources=(Modality.IMAGE, Modality.TEXT), in_distribution=False).probes == 128


def test_a_source_that_was_not_measured_visits_all_lists() -> None:
    step = step_for(sources=(Modality.IMU,))
    assert (step.probes, step.rerank, step.recall, step.point) == (512, 1000, None, None)
    assert "not measured for imu queries: probes all lists" in step.reason


@pytest.mark.parametrize(
    ("k", "measured_k", "rerank"), [(1, 10, 200), (11, 100, 600), (100, 100, 600), (200, 100, 1200)]
)
def test_the_point_is_the_one_for_enough_results(k: int, measured_k: int, rerank: int) -> None:
    step = step_for(replace(QUERY, k=k))
    assert step.point is not None
    assert (step.point.k, step.rerank) == (measured_k, rerank)
    assert (step.recall is None) == (k > 100)


def test_a_diverse_list_is_chosen_from_five_times_as_many() -> None:
    step = step_for(replace(QUERY, diversity=0.5))
    assert step.fetch_rows == 66
    assert step.point is not None
    assert step.point.k == 100


def test_the_query_s_own_rows_are_fetched_beside_those_wanted() -> None:
    assert step_for(excluded=7).fetch_rows == 33
    assert step_for(kept=20).fetch_rows == 20
    assert step_for(excluded=5000).rerank == 5026


@pytest.mark.parametrize(
    ("share", "probes", "level"),
    [(1.0, 128, 1.0), (0.99, 130, 1.0), (0.7, 183, 1.0), (0.5, 200, 0.5), (0.499, 201, 0.5), (0.1, 480, 0.1)],
)
def test_a_filter_takes_the_nearer_measured_level(share: float, probes: int, level: float) -> None:
    step = step_for(kept=round(N * share), force=Strategy.PROBE)
    assert step.point is not None
    assert (step.probes, step.point.selectivity) == (probes, level)


def test_below_the_least_level_probes_are_widened_up_to_all_lists() -> None:
    index = replace(INDEX, points=(point(kept=0.1, probes=100),))
    step = step_for(index=index, kept=N // 20, force=Strategy.PROBE)
    assert step.probes == 200
    assert "probes raised from 100 to 200: the filter matches 5%" in step.reason
    assert step_for(index=index, kept=N // 1000, force=Strategy.PROBE).probes == 512


@pytest.mark.parametrize(
    ("share", "strategy"),
    [
        (1, Strategy.PROBE),
        (0.5, Strategy.PROBE),
        (0.1, Strategy.PROBE),
        (0.03, Strategy.GATHER),
        (0.001, Strategy.GATHER),
    ],
)
def test_the_fewer_rows_are_kept_the_more_exact_the_way(share: float, strategy: Strategy) -> None:
    assert step_for(kept=round(N * share)).strategy is strategy


def test_a_filter_that_keeps_neighbours_is_scanned() -> None:
    partition = PartitionFacts(Modality.IMAGE, 1024, N, N, 12_000, INDEX, runs=100)
    assert make_plan(QUERY, PlanFacts((partition,))).partitions[0].strategy is Strategy.SCAN
    apart = make_plan(QUERY, PlanFacts((replace(partition, runs=12_000),))).partitions[0]
    assert apart.strategy is Strategy.GATHER


def test_no_more_rows_are_gathered_than_fit_their_copy() -> None:
    index = replace(INDEX, points=())
    most = 32 * 2**20 // 2048
    assert step_for(index=index, kept=most, force=Strategy.GATHER).strategy is Strategy.GATHER
    assert step_for(index=index, kept=most + 1, force=Strategy.GATHER).strategy is not Strategy.GATHER


def test_rows_after_the_index_are_counted_and_paid_for() -> None:
    index = replace(INDEX, n=N - 10_000)
    step = step_for(index=index)
    assert step.tail == 10_000
    assert step.estimate_ms - step_for(index=index, rows=N - 10_000, kept=N - 10_000).estimate_ms == pytest.approx(
        0.04 + 10_000 * 2048 * 0.042e-6
    )


def test_a_damaged_index_is_not_used_and_told() -> None:
    partition = PartitionFacts(Modality.IMAGE, 1024, N, N, N, INDEX, index_error="gone.faiss is missing")
    step = make_plan(QUERY, PlanFacts((partition,))).partitions[0]
    assert step.strategy is Strategy.SCAN
    assert step.reason == "exact: 420,000 rows take 36 ms; the index is not used: gone.faiss is missing"


def test_few_rows_are_scanned() -> None:
    step = step_for(index=None, rows=800, kept=800)
    assert (step.strategy, step.recall) == (Strategy.SCAN, 1.0)
    assert step.reason == "exact: 800 rows take 0.11 ms"


def test_a_probe_that_was_measured_below_the_wanted_recall_is_not_taken() -> None:
    step = step_for(index=replace(INDEX, recall=0.99))
    assert step.strategy is Strategy.SCAN
    assert "probe reaches recall 0.985, target 0.99" in step.reason


def test_a_gpu_is_never_given_a_filter() -> None:
    gpu = replace(INDEX, device="cuda:0")
    assert step_for(index=gpu).strategy is Strategy.PROBE_WIDE
    half = step_for(index=gpu, kept=N // 2)
    assert (half.strategy, half.rerank, half.recall) == (Strategy.PROBE_WIDE, 400, None)
    few = step_for(index=gpu, kept=N // 20)
    assert few.strategy is Strategy.SCAN
    assert "GPU searches cannot filter" in few.reason


def test_a_gpu_gives_no_more_candidates_than_faiss_allows() -> None:
    step = step_for(replace(QUERY, k=500), index=replace(INDEX, device="cuda:0"))
    assert step.strategy is Strategy.SCAN
    assert f"a GPU returns at most {GPU_WIDTH:,} candidates: too few" in step.reason


def test_exact_rows_on_a_gpu_are_exact() -> None:
    index = IndexFacts(N, lists=1, code_bytes=2048, points=(), device="cuda:0", form=IndexForm.EXACT)
    step = step_for(index=index, force=Strategy.PROBE_WIDE)
    assert (step.strategy, step.recall, step.probes) == (Strategy.PROBE_WIDE, 1.0, 1)


def test_a_strategy_that_is_forced_is_taken_where_it_can_be() -> None:
    assert step_for(force=Strategy.SCAN).strategy is Strategy.SCAN
    assert step_for(force=Strategy.PROBE_WIDE).strategy is Strategy.PROBE
    assert "forced: scan 36 ms, probe" in step_for(force=Strategy.SCAN).reason


def test_every_rule_says_so_itself_when_it_does_not_apply() -> None:
    partition = PartitionFacts(Modality.IMAGE, 1024, N, N, N)
    proposed = [rule(QUERY, PlanFacts((partition,)), partition) for rule in RULES]
    assert [step.strategy if step else None for step in proposed] == [None, Strategy.SCAN, None, None]


def test_planning_takes_little_time() -> None:
    partitions = tuple(PartitionFacts(modality, 1024, N, N, N, INDEX) for modality in Modality)
    facts = PlanFacts(partitions, (TermStep("a", Modality.TEXT, 1.0, ""),))
    query = replace(QUERY, to=tuple(Modality))
    started = time.perf_counter()
    for _ in range(50):
        make_plan(query, facts)
    assert (time.perf_counter() - started) / 50 < 0.01


def test_a_recall_that_is_just_the_wanted_one_is_enough() -> None:
    assert step_for(index=replace(INDEX, recall=0.985)).strategy is Strategy.PROBE
    assert step_for(index=replace(INDEX, recall=0.986)).strategy is Strategy.SCAN


def test_of_points_with_as_many_probes_the_one_that_compares_fewer_rows_is_used() -> None:
    for reranks in ((100, 400), (400, 100)):
        points = (point(kept=1.0, probes=50, rerank=reranks[0]), point(kept=0.1, probes=100, rerank=reranks[1]))
        step = step_for(index=replace(INDEX, points=points), kept=N // 2, force=Strategy.PROBE)
        assert (step.probes, step.rerank) == (100, 100)


COSTS = UnitCosts(0.03, 0.11, 1.7, 0.05, 900.0, 30_000.0)


@pytest.mark.parametrize(
    ("strategy", "kept", "runs", "n", "expected_ns"),
    [
        (Strategy.SCAN, 1000, None, 0, 30_000 + 1000 * 256 * 0.03),
        (Strategy.SCAN, 500, 50, 0, 30_000 + 1000 * 1.7 + 500 * 256 * (0.03 + 0.2**0.5 * 0.08)),
        (Strategy.SCAN, 500, None, 0, 30_000 + 1000 * 1.7 + 500 * 256 * (0.03 + 1.0 * 0.08)),
        (Strategy.SCAN, 900, None, 0, 30_000 + 1000 * 1.7 + 900 * 256 * (0.03 + 0.2**0.5 * 0.08)),
        (Strategy.GATHER, 500, 50, 0, 30_000 + 500 * 256 * 0.11),
        (Strategy.PROBE, 1000, None, 1000, 60_000 + 4 * 900 + 4 / 16 * 1000 * 8 * 0.05 + 200 * 256 * 0.11),
        (
            Strategy.PROBE,
            500,
            None,
            1000,
            60_000 + 8 * 900 + 8 / 16 * 1000 * (8 * 0.05 + 1.7) + 200 * 256 * 0.11,
        ),
        (
            Strategy.PROBE,
            1000,
            None,
            800,
            60_000 + 4 * 900 + 4 / 16 * 800 * 8 * 0.05 + 200 * 256 * 0.11 + 30_000 + 200 * 256 * 0.03,
        ),
        (Strategy.PROBE_WIDE, 1000, None, 1000, 1e6),
        (Strategy.PROBE_WIDE, 1000, None, 800, 1e6 + 30_000 + 200 * 256 * 0.03),
        (Strategy.PROBE_WIDE, 500, None, 1000, 1e6 + 200 * 256 * 0.11),
    ],
)
def test_the_estimate_is_what_the_unit_costs_give(
    strategy: Strategy, kept: int, runs: int | None, n: int, expected_ns: float
) -> None:
    device = "cuda:0" if strategy is Strategy.PROBE_WIDE else "cpu"
    index = IndexFacts(n, lists=16, code_bytes=8, points=(point(probes=4),), device=device) if n else None
    partition = PartitionFacts(Modality.IMAGE, 128, 1000, 1000, kept, index, runs=runs)
    facts = PlanFacts((partition,), (TermStep("?", Modality.TEXT, 1.0, ""),), costs=COSTS)
    step = make_plan(QUERY, facts, force=strategy).partitions[0]
    assert step.strategy is strategy
    assert step.estimate_ms * 1e6 == pytest.approx(expected_ns)


def test_dead_rows_are_masked_and_do_not_count_for_the_share() -> None:
    partition = PartitionFacts(Modality.IMAGE, 128, 1000, 500, 500, IndexFacts(1000, 16, 8, (point(probes=4),)))
    facts = PlanFacts((partition,), (TermStep("?", Modality.TEXT, 1.0, ""),), costs=COSTS)
    step = make_plan(QUERY, facts, force=Strategy.PROBE).partitions[0]
    assert (step.probes, step.recall) == (4, 0.985)
    assert "filter" not in step.reason
    assert step.estimate_ms * 1e6 == pytest.approx(
        60_000 + 4 * 900 + 4 / 16 * 1000 * (8 * 0.05 + 1.7) + 200 * 256 * 0.11
    )
    assert make_plan(QUERY, facts, force=Strategy.GATHER).partitions[0].strategy is Strategy.GATHER


@pytest.mark.parametrize(
    ("k", "shards", "rerank", "instead_of"),
    [
        (100, 1, 600, None),
        (100, 2, 600, None),  # ceil(50 + 4 sqrt(50)) = 79 results: as for 100
        (100, 100, 200, 600),  # ceil(1 + 4) = 5 results: as for 10
        (200, 1, 1200, None),
        (200, 2, 840, 1200),  # ceil(100 + 4 sqrt(100)) = 140 results: 1.4 times as many as for 100
        (10, 2, 200, None),  # ceil(5 + 4 sqrt(5)) = 14 results: all 10
    ],
)
def test_a_shard_compares_candidates_for_its_part_of_the_results(
    k: int, shards: int, rerank: int, instead_of: int | None
) -> None:
    partition = PartitionFacts(Modality.IMAGE, 1024, N, N, N, INDEX)
    facts = PlanFacts((partition,), (TermStep("?", Modality.TEXT, 1.0, ""),), shards=shards)
    step = make_plan(replace(QUERY, k=k), facts, force=Strategy.PROBE).partitions[0]
    assert step.rerank == rerank
    note = f"shard of {shards}: rerank {rerank} instead of {instead_of}"
    assert (note in step.reason) == ("shard" in step.reason) == (instead_of is not None)


def test_a_gpu_gives_exactly_as_many_candidates_and_probes_as_faiss_allows() -> None:
    points = (point(k=5000, probes=3000, rerank=100),)
    gpu = replace(INDEX, device="cuda:0", lists=4096, points=points)
    step = step_for(replace(QUERY, k=GPU_WIDTH - 16), index=gpu)
    assert (step.strategy, step.rerank, step.probes) == (Strategy.PROBE_WIDE, GPU_WIDTH, GPU_WIDTH)
    assert step_for(replace(QUERY, k=GPU_WIDTH - 15), index=gpu).strategy is Strategy.SCAN


def test_a_gpu_is_used_for_filters_that_match_a_tenth_of_the_rows() -> None:
    gpu = replace(INDEX, device="cuda:0", points=(point(kept=0.1, rerank=100),))
    step = step_for(index=gpu, kept=N // 10, force=Strategy.PROBE_WIDE)
    assert (step.strategy, step.rerank, step.recall) == (Strategy.PROBE_WIDE, 1000, None)
    assert "10x the candidates, filtered afterwards, recall unknown" in step.reason
    fewer = step_for(index=gpu, kept=N // 10 - 1, force=Strategy.PROBE_WIDE)
    assert fewer.strategy is not Strategy.PROBE_WIDE
    assert f"10% of {GPU_WIDTH:,} candidates are too few" in fewer.reason


def test_a_query_like_those_of_a_modality_takes_its_point() -> None:
    partition = PartitionFacts(Modality.IMAGE, 1024, N, N, N, INDEX, predicted_source=Modality.IMAGE)
    for source, probes in ((None, 16), (Modality.TEXT, 128)):
        step = make_plan(QUERY, PlanFacts((partition,), (TermStep("?", source, 1.0, ""),))).partitions[0]
        assert step.probes == probes
        assert ("the query resembles image queries" in step.reason) == (source is None)


@pytest.mark.parametrize(
    ("matching", "live", "reason"), [(0, 3000, "no row of 3,000 matches"), (0, 0, "the partition is empty")]
)
def test_a_partition_without_a_matching_row_is_skipped(matching: int, live: int, reason: str) -> None:
    partition = PartitionFacts(Modality.IMAGE, 8, 4000, live, matching)
    step = make_plan(QUERY, PlanFacts((partition,))).partitions[0]
    assert (step.strategy, step.reason, step.estimate_ms, step.recall) == (Strategy.SKIP, reason, 0.0, 1.0)


@pytest.mark.parametrize(("at_half", "probes"), [(300, 200), (200, 200), (150, 150)])
def test_a_point_of_exactly_the_share_is_not_used_if_another_needs_fewer_probes(at_half: int, probes: int) -> None:
    index = replace(INDEX, points=(point(kept=1.0, probes=100), point(kept=0.5, probes=at_half)))
    assert step_for(index=index, kept=N // 2, force=Strategy.PROBE).probes == probes


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0.0, "0 ms"), (0.994, "0.99 ms"), (1.0, "1.0 ms"), (9.94, "9.9 ms"), (10.0, "10 ms"), (36.2, "36 ms")],
)
def test_milliseconds_have_two_digits(ms: float, text: str) -> None:
    assert format_ms(ms) == text


def test_a_plan_states_the_query_and_room_for_copies() -> None:
    query = replace(QUERY, k=7, diversity=0.25, min_match=0.5)
    plan = make_plan(query, PlanFacts((), filter="x > 1", notes=("a note",)))
    assert (plan.k, plan.diversity, plan.min_match, plan.filter, plan.notes) == (7, 0.25, 0.5, "x > 1", ("a note",))
    assert (plan.copies, plan.spare, plan.partitions, plan.estimate_ms) == (False, 8, (), 0)
    plan = make_plan(replace(query, copies=True), PlanFacts(()))
    assert (plan.copies, plan.spare) == (True, 0)


def test_an_index_without_lists_is_probed_once() -> None:
    index = IndexFacts(1000, lists=0, code_bytes=8, points=())
    step = step_for(index=index, rows=1000, kept=1000, force=Strategy.PROBE)
    assert (step.probes, step.rerank) == (1, 1000)
    step = step_for(replace(QUERY, k=200), index=INDEX, sources=(Modality.IMU,))
    assert step.rerank == 10 * 216


def test_of_strategies_of_one_cost_the_first_is_used() -> None:
    costs = UnitCosts(0.0, 0.0, 0.0, 0.0, 0.0, 1000.0)
    partition = PartitionFacts(Modality.IMAGE, 8, 100, 100, 50)
    step = make_plan(QUERY, PlanFacts((partition,), costs=costs)).partitions[0]
    assert step.strategy is Strategy.GATHER
    assert step.reason == "chosen by cost: gather 0.00 ms, scan 0.00 ms"
