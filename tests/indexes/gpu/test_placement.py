"""Placement on GPUs: what can be shown without one, with FAISS's CPU indexes in their place, and, marked, on one."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

import bindsearch as bs
from bindsearch.errors import UsageError
from bindsearch.indexes.exact import ExactRows
from bindsearch.indexes.gpu import placement
from bindsearch.indexes.gpu.index import GPU_LIMIT, Gpu
from bindsearch.indexes.gpu.placement import GpuResidency, build_codes, choose_exact, code_parameters, resolve_device
from bindsearch.indexes.ivf_pq import IvfPqIndex, build_index
from bindsearch.indexes.types import IndexForm, IndexParameters, IndexSettings, UnitCosts
from bindsearch.operations.index_policy import IndexActionKind
from bindsearch.search.filter import make_filter
from bindsearch.search.plan import Strategy
from bindsearch.types import Modality
from helpers import vector_store
from helpers.stores import connect

SEEN = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
on_a_gpu = pytest.mark.skipif(SEEN == 0, reason="FAISS sees no GPU here")
without_a_gpu = pytest.mark.skipif(SEEN > 0, reason="there is a GPU")

N, DIM = 3000, 64
CODED = IndexParameters(IndexForm.IVF_PQ8, reduced_dim=32, subquantizers=16, bits=8, lists=20, train_rows=2000)


class OnTheCpu(Gpu):
    """What stands in for a GPU: the same FAISS calls on the CPU's indexes."""

    def __init__(self, number: int, free: int = 2**30) -> None:
        super().__init__(number)
        self._free = free

    def free_bytes(self) -> int:
        return self._free

    def with_own_resources(self) -> Gpu:
        return self

    def flat(self, dim: int, *, half: bool = True) -> Any:
        index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        return index if half else faiss.IndexFlatIP(dim)

    def copy(self, lists: Any, reserve: int = 0) -> Any:
        assert (lists.ntotal == 0) == (reserve > 0)
        return faiss.deserialize_index(faiss.serialize_index(lists))  # a clone would share what is read from a file

    def fetch(self, lists: Any) -> Any:
        return lists


def stand_ins(count: int = 1, free: int = 2**30) -> GpuResidency:
    return GpuResidency("auto", [OnTheCpu(number, free) for number in range(count)])


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float16]:
    vectors = vector_store.gap_vectors(np.random.default_rng(1), {"image": N}, DIM)
    return vectors["image"].astype(np.float16)


@pytest.fixture(scope="module")
def queries() -> NDArray[np.float32]:
    return vector_store.gap_vectors(np.random.default_rng(2), {"image": 20}, DIM)["image"]


@pytest.fixture(scope="module")
def codes(rows: NDArray[np.float16]) -> IvfPqIndex:
    return build_index([rows[:1000], rows[1000:]], CODED)


# ---- devices and room


def test_cpu_is_no_gpu_wherever_it_runs() -> None:
    assert resolve_device("cpu") == ()
    assert GpuResidency("cpu").devices == ()
    assert GpuResidency("cpu").notes == ()


@without_a_gpu
def test_auto_without_a_gpu_is_the_cpu_and_says_so() -> None:
    assert resolve_device("auto") == ()
    assert GpuResidency("auto").notes == ("no GPU, using the CPU",)


@without_a_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:3"])
def test_a_device_that_is_not_here_is_an_error_that_says_what_is(device: str) -> None:
    message = f"device '{device}' is not available: FAISS finds no GPU; use --device cpu or auto"
    with pytest.raises(UsageError) as raised:
        resolve_device(device)
    assert str(raised.value) == message
    with pytest.raises(UsageError):
        GpuResidency(device).check()


@pytest.mark.parametrize("device", ["tpu", "cpu:", "cuda:x", ""])
def test_a_device_that_there_is_not_is_an_error_that_names_those_there_are(device: str) -> None:
    with pytest.raises(UsageError, match=f"unknown device '{device}': choose auto, cpu, cuda or cuda:N"):
        resolve_device(device)


@without_a_gpu
def test_no_gpu_has_no_free_memory() -> None:
    assert Gpu(0).free_bytes() == 0


def test_as_many_partitions_as_can_go_whole_and_leave_room_for_the_codes_of_the_others() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        held = {name: int(n) for name, n in zip("abcd", rng.integers(0, 10_000, 4), strict=True)}
        budget = int(rng.integers(0, 3_000_000))
        exact = choose_exact(held, DIM, budget)
        order = sorted(held, key=lambda name: (held[name], name))
        assert exact == set(order[: len(exact)])

        def needed(count: int, order: list[str] = order, held: dict[str, int] = held) -> int:
            whole, coded = order[:count], order[count:]
            return sum(2 * DIM * held[name] for name in whole) + sum(72 * held[name] for name in coded)

        assert not exact or needed(len(exact)) <= budget
        assert all(needed(more) > budget for more in range(len(exact) + 1, 5))


def test_parameters_of_codes_are_such_that_a_gpu_takes_them() -> None:
    settings = IndexSettings(
        IndexForm.IVF_PQ, memory_bytes=10**6, overrides={"subquantizers": 256, "bits": 4, "lists": 77}
    )
    parameters = code_parameters(400_000, 1024, settings)
    assert (parameters.form, parameters.subquantizers, parameters.bits) == (IndexForm.IVF_PQ8, 64, 8)
    assert (parameters.lists, parameters.reduced_dim) == (77, 512)


# ---- candidates


@pytest.mark.parametrize("gpus", [1, 3])
@pytest.mark.parametrize("shard_rows", [10_000, 700])
def test_rows_in_shards_give_what_a_scan_gives(
    rows: NDArray[np.float16],
    queries: NDArray[np.float32],
    gpus: int,
    shard_rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "SHARD_BYTES", shard_rows * 2 * DIM)
    blocks = [rows[:10], rows[10:10], rows[10:2500], rows[2500:]]
    index = stand_ins(gpus).on_rows(blocks)
    assert (index.n, index.dim, index.lists, index.parameters.form) == (N, DIM, 1, IndexForm.EXACT)
    truth = ExactRows(DIM, blocks).scan(queries, 30).positions
    np.testing.assert_array_equal(index.candidates(queries, 30, 1), truth)
    np.testing.assert_array_equal(index.candidates(queries[:1], 30, 1), truth[:1])


@pytest.mark.parametrize("gpus", [1, 3])
def test_codes_in_shards_give_what_the_whole_index_gives(
    codes: IvfPqIndex, queries: NDArray[np.float32], gpus: int
) -> None:
    index = stand_ins(gpus).on_codes(codes)
    assert (index.n, index.dim, index.lists, index.parameters) == (N, DIM, 20, CODED)
    for probes in (1, 5, 20, 99):
        expected = codes.candidates(queries, 40, probes)
        for found, due in zip(index.candidates(queries, 40, probes), expected, strict=True):
            assert len(set(found) & set(due)) >= 39  # the last place may be shared


def test_candidates_are_padded_where_there_are_no_more(rows: NDArray[np.float16], queries: NDArray[np.float32]) -> None:
    index = stand_ins(2).on_rows([rows[:50]])
    found = index.candidates(queries, 60, 1)
    assert found.shape == (20, 60)
    assert (found[:, 50:] == -1).all()
    assert (np.sort(found[:, :50]) == np.arange(50)).all()
    wide = stand_ins().on_rows([rows]).candidates(queries[:1], 2500, 1)
    assert (wide[0] >= 0).sum() == GPU_LIMIT


@pytest.mark.parametrize("fill_rows", [10**6, 700])
def test_codes_filled_on_a_gpu_piece_by_piece_are_those_of_the_cpu(
    rows: NDArray[np.float16],
    codes: IvfPqIndex,
    queries: NDArray[np.float32],
    fill_rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "FILL_ROWS", fill_rows)
    told: list[int] = []
    built = build_codes([rows[:1000], rows[1000:]], CODED, stand_ins().devices, told.append)
    assert (built.n, built.dim, told[-1]) == (N, DIM, N)
    for number in range(CODED.lists):
        assert set(built.list_ordinals(number)) == set(codes.list_ordinals(number))
    np.testing.assert_array_equal(built.candidates(queries, 20, 20), codes.candidates(queries, 20, 20))
    on_the_cpu = build_codes([rows], CODED, ())
    np.testing.assert_array_equal(on_the_cpu.candidates(queries, 20, 20), codes.candidates(queries, 20, 20))


# ---- what lies there


def test_rows_stay_where_they_are_while_few_follow_them(rows: NDArray[np.float16]) -> None:
    gpus = stand_ins()
    first = gpus.place_rows("image", (("a", 1000),), [rows[:1000]])
    assert first is not None
    assert gpus.place_rows("image", (("a", 1000), ("b", 5)), [rows[:1000], rows[1000:1005]]) is first
    merged = gpus.place_rows("image", (("c", 1005),), [rows[:1005]])
    assert merged is not None
    assert merged.n == 1005
    assert gpus.place_rows("image", (("a", 1000),), [rows[:1000]]) is not first


def test_codes_are_placed_anew_when_others_are_published(codes: IvfPqIndex) -> None:
    gpus = stand_ins()
    first = gpus.place_codes("image", ("7", "digest"), lambda: codes)
    assert gpus.place_codes("image", ("7", "digest"), lambda: pytest.fail("opened again")) is first
    assert gpus.place_codes("image", ("8", "other"), lambda: codes) is not first
    gpus.close()


def test_what_does_not_fit_is_searched_on_the_cpu_and_told(rows: NDArray[np.float16]) -> None:
    class Full(OnTheCpu):
        def flat(self, dim: int, *, half: bool = True) -> Any:
            raise RuntimeError("StandardGpuResources: alloc fail\n at GpuIndex.cu")

    gpus = GpuResidency("auto", [Full(0)])
    assert gpus.place_rows("image", (("a", N),), [rows]) is None
    assert gpus.notes == ("image is searched on the CPU: StandardGpuResources: alloc fail",)
    assert build_codes([rows], CODED, gpus.devices).n == N


# ---- the store


def open_store(path: Path, gpus: GpuResidency | None) -> bs.Store:
    """Open the store on the GPUs, with costs that make scanning and gathering even few rows expensive."""
    store = connect(path, device="cpu" if gpus is None else "auto")
    if gpus is not None:
        store._gpus.devices = gpus.devices
        store._costs = UnitCosts(scan_ns_per_byte=50.0, gather_ns_per_byte=50.0)
    return store


def paths(hits: list[bs.Hit]) -> list[str]:
    return [f"{hit.path.parent.name}/{hit.path.name}" for hit in hits]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    vectors = vector_store.gap_vectors(np.random.default_rng(3), {"text": 100, "image": 1200})
    columns = [json.dumps({"label": "red" if n % 2 else "blue"}) for n in range(1200)]
    vector_store.write_items(tmp_path / "store", vectors, columns=columns)
    return tmp_path / "store"


def test_a_store_on_gpus_answers_as_on_the_cpu(path: Path, queries: NDArray[np.float32]) -> None:
    with open_store(path, stand_ins(2)) as there, open_store(path, None) as here:
        asked = list(queries)
        for filter in (None, "label = 'red'", "item_id < 120"):
            for to in (["image"], ["image", "text"]):
                found = there.search_many(asked, to=to, filter=filter, source="text")
                due = here.search_many(asked, to=to, filter=filter, source="text")
                assert [paths(hits) for hits in found] == [paths(hits) for hits in due]
                assert [hit.cosine for hits in found for hit in hits] == [hit.cosine for hits in due for hit in hits]
        ids = [hit.item_id for hits in due for hit in hits]
        more = vector_store.gap_vectors(np.random.default_rng(4), {"image": 40})
        vector_store.write_items(path, more, first=1200, remove=ids)
        found, due = (store.search_many(asked, to="image", ranking="cosine", source="text") for store in (there, here))
        assert [paths(hits) for hits in found] == [paths(hits) for hits in due]


def test_the_plan_says_how_a_gpu_is_used_and_why_not(path: Path) -> None:
    with open_store(path, stand_ins()) as store:
        query = bs.make_query("x", to="image")
        (step,) = store.explain(query).partitions
        assert (step.strategy, step.recall, step.tail) == (Strategy.PROBE_WIDE, 1.0, 0)
        few = bs.make_query("x", to="image", filter=make_filter(where="item_id < 120"))
        (step,) = store.explain(few).partitions
        assert step.strategy is not Strategy.PROBE_WIDE
        assert "GPU searches cannot filter" in step.reason


@without_a_gpu
def test_without_a_gpu_the_plan_says_so_and_cuda_is_an_error(path: Path) -> None:
    query, vector = bs.make_query("x", to="image"), np.ones(64)
    assert connect(path).explain(query).notes == ("no GPU, using the CPU",)
    assert connect(path, device="cpu").explain(query).notes == ()
    refused = connect(path, device="cuda")
    for call in (lambda: refused.search(vector), lambda: refused.explain(query), refused.optimize, refused.index):
        with pytest.raises(UsageError, match="device 'cuda' is not available"):
            call()


@pytest.fixture
def coded(path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bs.Store]:
    """Open a store whose image vectors do not fit uncompressed: GPUs of 150 KB."""
    from bindsearch.operations import index_policy, optimize

    monkeypatch.setattr(index_policy, "TAIL_ELEMENTS", 100 * 64)
    monkeypatch.setattr(optimize, "QUERIES", 60)
    monkeypatch.setattr(
        index_policy, "MAX_CODE_ERROR_GROWTH", 3.0
    )  # so few rows that codes fit those they were trained on best
    return lambda: open_store(path, stand_ins(free=150_000))


def test_rows_that_do_not_fit_get_codes_of_their_own(
    coded: Callable[[], bs.Store], path: Path, queries: NDArray[np.float32]
) -> None:
    settings = IndexSettings(IndexForm.IVF_PQ, overrides={"lists": 16, "train_rows": 1000})
    store = coded()
    done = {one.modality: one.need.work for one in store.optimize(index_settings=settings)}
    assert done == dict.fromkeys((Modality.TEXT, Modality.IMAGE), IndexActionKind.BUILD)
    assert [file.parent.parent.name for file in path.glob("indexes/*/*/gpu.faiss")] == ["image"]
    (step,) = store.explain(bs.make_query("x", to="image")).partitions
    assert step.strategy is Strategy.PROBE_WIDE
    assert step.recall is not None
    assert step.recall >= 0.98
    exact = open_store(path, None)

    def recall() -> float:
        found = store.search_many(list(queries), to="image", ranking="cosine", source="text")
        due = exact.search_many(list(queries), to="image", ranking="cosine", filter="item_id > 0", source="text")
        return float(np.mean([len(set(paths(a)) & set(paths(b))) / 10 for a, b in zip(found, due, strict=True)]))

    assert recall() >= 0.97
    assert store.optimize() == []
    more = vector_store.gap_vectors(np.random.default_rng(5), {"image": 150})
    vector_store.write_items(path, more, first=1200)
    assert recall() >= 0.97  # a tail
    with open_store(path, None) as elsewhere:  # a machine without GPUs keeps their codes up to date
        (done_now,) = elsewhere.optimize()
    assert (done_now.modality, done_now.need.work) == (Modality.IMAGE, IndexActionKind.APPEND), done_now.need.reason
    vector_store.write_items(path, {}, remove=list(range(110, 160)))
    assert recall() >= 0.97
    (step,) = store.explain(bs.make_query("x", to="image")).partitions
    assert (step.strategy, step.tail) == (Strategy.PROBE_WIDE, 0)


def test_damaged_codes_are_told_not_used_and_built_anew(
    coded: Callable[[], bs.Store], path: Path, queries: NDArray[np.float32]
) -> None:
    coded().optimize(index_settings=IndexSettings(IndexForm.IVF_PQ))
    (file,) = path.glob("indexes/image/*/gpu.faiss")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    store = coded()
    assert len(store.search(queries[0], to="image")) == 10
    plan = store.explain(bs.make_query("x", to="image"))
    assert plan.partitions[0].strategy is not Strategy.PROBE_WIDE
    assert any("gpu.faiss" in note and "does not match its digest" in note for note in plan.notes)
    assert open_store(path, None).optimize() == []
    (done,) = store.optimize()
    assert done.need.work is IndexActionKind.BUILD
    assert coded().explain(bs.make_query("x", to="image")).partitions[0].strategy is Strategy.PROBE_WIDE


def test_a_store_gets_codes_when_it_first_meets_a_gpu(coded: Callable[[], bs.Store], path: Path) -> None:
    open_store(path, None).optimize(index_settings=IndexSettings(IndexForm.IVF_PQ))
    (done,) = coded().optimize()
    assert (done.modality, done.need.reason) == (Modality.IMAGE, "it has no codes for the GPU")


# ---- on a GPU


def clustered(n: int, dim: int = 1024) -> NDArray[np.float16]:
    rng = np.random.default_rng(6)
    spread = rng.standard_normal((64, dim), np.float32)
    centres = rng.standard_normal((500, 64), np.float32)
    points = centres[rng.integers(0, 500, n)] + 0.5 * rng.standard_normal((n, 64), np.float32)
    vectors = points @ spread + 0.5 * rng.standard_normal((n, dim), np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def many() -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    vectors = clustered(101_024)
    return vectors[1024:], vectors[:1024].astype(np.float32)


def share_found(found: NDArray[np.int64], due: NDArray[np.int64]) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), due.tolist(), strict=True)]))


@pytest.mark.gpu
@on_a_gpu
def test_faiss_tells_the_free_memory_of_a_gpu() -> None:
    assert Gpu(0).free_bytes() > 2**30


@pytest.mark.gpu
@on_a_gpu
def test_rows_on_gpus_give_what_a_scan_gives(
    many: tuple[NDArray[np.float16], NDArray[np.float32]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, queries = many
    monkeypatch.setattr(placement, "SHARD_BYTES", 40_000 * 2 * 1024)
    index = GpuResidency("auto").on_rows([rows[:30_000], rows[30_000:]])
    exact = ExactRows(1024, [rows])
    found = exact.rerank(queries[:200], index.candidates(queries[:200], 26, 1), 10)
    due = exact.scan(queries[:200], 10)
    assert share_found(found.positions, due.positions) >= 0.999
    np.testing.assert_allclose(found.cosines, due.cosines, atol=1e-5)


@pytest.mark.gpu
@on_a_gpu
def test_codes_built_and_searched_on_gpus_find_what_they_find_on_the_cpu(
    many: tuple[NDArray[np.float16], NDArray[np.float32]],
) -> None:
    rows, queries = many
    gpus, parameters = GpuResidency("auto"), code_parameters(len(rows), 1024, IndexSettings())
    exact = ExactRows(1024, [rows])
    due = exact.scan(queries[:200], 10).positions
    built = build_codes([rows], parameters, gpus.devices)
    assert sorted(np.concatenate([built.list_ordinals(n) for n in range(built.lists)])) == list(range(len(rows)))
    shares = []
    for codes in (built, build_index([rows], parameters)):
        for index in (codes, gpus.on_codes(codes)):
            for probes in (8, codes.lists):
                shares.append(share_found(index.candidates(queries[:200], 200, probes), due))
    assert max(shares[0::2]) - min(shares[0::2]) <= 0.02
    assert max(shares[1::2]) - min(shares[1::2]) <= 0.02
    assert min(shares[1::2]) >= 0.9


@pytest.mark.gpu
@on_a_gpu
@pytest.mark.parametrize("form", ["exact", "codes"])
@pytest.mark.parametrize("batch", [1, 32, 1024])
def test_candidates_come_as_fast_as_from_faiss_by_hand(
    many: tuple[NDArray[np.float16], NDArray[np.float32]], form: str, batch: int
) -> None:
    rows, queries = many[0], many[1][:batch]
    resources = faiss.StandardGpuResources()
    gpus = GpuResidency("cuda:0")
    by_hand: Any
    index: Any
    params: Any
    if form == "exact":
        config = faiss.GpuIndexFlatConfig()
        config.useFloat16 = True
        by_hand = faiss.GpuIndexFlat(resources, 1024, faiss.METRIC_INNER_PRODUCT, config)
        by_hand.add(rows.astype(np.float32))
        index, params = gpus.on_rows([rows]), None
    else:
        codes = build_index([rows], code_parameters(len(rows), 1024, IndexSettings()))
        options = faiss.GpuClonerOptions()
        options.useFloat16 = True
        by_hand = faiss.index_cpu_to_gpu(resources, 0, codes._chain, options)
        untyped: Any = faiss
        lists = untyped.SearchParametersIVF(nprobe=32)
        index, params = gpus.on_codes(codes), untyped.SearchParametersPreTransform(index_params=lists)
    calls: tuple[Callable[[], object], ...] = (
        lambda: by_hand.search(queries, 200, params=params),
        lambda: index.candidates(queries, 200, 32),
    )
    times: list[list[float]] = [[], []]
    for round in range(30):
        for number, call in enumerate(calls):
            start = time.perf_counter()
            call()
            if round >= 5:
                times[number].append(time.perf_counter() - start)
    assert statistics.median(times[1]) <= 1.2 * statistics.median(times[0])


@pytest.mark.gpu
@on_a_gpu
def test_a_store_on_a_gpu_answers_as_on_the_cpu(path: Path, queries: NDArray[np.float32]) -> None:
    with connect(path, device="cuda") as there, connect(path, device="cpu") as here:
        for filter in (None, "label = 'red'"):
            found, due = (
                store.search_many(list(queries), to="image", filter=filter, source="text") for store in (there, here)
            )
            assert [paths(hits) for hits in found] == [paths(hits) for hits in due]


@pytest.mark.gpu
@on_a_gpu
@pytest.mark.parametrize("kept", [0.5, 0.05])
def test_a_filter_that_excludes_the_querys_surroundings_finds_on_a_gpu_what_a_scan_finds(
    tmp_path: Path, kept: float
) -> None:
    asked, due = vector_store.write_near_and_far(tmp_path / "store", kept)
    with connect(tmp_path / "store", device="cuda") as store:
        store.optimize()
        found = store.search_many(list(asked), to="image", filter="label = 'far'", source="text", copies=True)
        numbers = np.array([[int(hit.path.name) for hit in hits] for hits in found])
        assert share_found(numbers, due) >= 0.98
