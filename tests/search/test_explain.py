"""Plans as text: golden files for fixed facts. BINDSEARCH_UPDATE_GOLDEN=1 writes them anew."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bindsearch.indexes.types import MIXED, OperatingPoint
from bindsearch.search.explain import explain_plan, explain_run, plan_json, run_json
from bindsearch.search.plan import (
    IndexFacts,
    PartitionFacts,
    PartitionRun,
    Plan,
    PlanFacts,
    PlanRun,
    TermStep,
    WordRun,
    WordStep,
)
from bindsearch.search.planner import make_plan
from bindsearch.search.query import Query, Ranking, Term
from bindsearch.types import Modality

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"
N = 420_000

TEXT = Query((Term("text", "a dog on the beach"),), to=(Modality.IMAGE,))
PICTURE = Query((Term("image", "dog.jpg"),), to=(Modality.IMAGE,))


def measured(
    source: str, probes: tuple[int, int, int], rerank: int, fallback_source: str | None = None
) -> list[OperatingPoint]:
    """Points for 10 and 100 results and a filter that keeps all, half and a tenth."""
    return [
        OperatingPoint(source, k, kept, share_probes, rerank * (1 if k == 10 else 3), 0.984, 1.5, fallback_source)
        for k in (10, 100)
        for kept, share_probes in zip((1.0, 0.5, 0.1), probes, strict=True)
    ]


POINTS = (
    *measured("text", (128, 160, 480), 400),
    *measured("image", (16, 20, 64), 200),
    *measured("audio", (192, 224, 512), 400),
    *measured("thermal", (192, 224, 512), 400, fallback_source="audio"),
    *measured(MIXED, (192, 224, 512), 400),
)
INDEX = IndexFacts(n=N, lists=512, code_bytes=128, points=POINTS)
IMAGES = PartitionFacts(Modality.IMAGE, dim=1024, rows=N, live_rows=N, matching_rows=N, index=INDEX)
FACTS = PlanFacts(
    partitions=(IMAGES,),
    terms=(TermStep("a dog on the beach", Modality.TEXT, 1.0, "the text tower of imagebind"),),
)
FROM_PICTURE = replace(FACTS, terms=(TermStep("dog.jpg", Modality.IMAGE, 1.0, "the vision tower of imagebind"),))
COMPOSED = replace(
    FACTS,
    terms=(
        TermStep("fruit.jpg", Modality.IMAGE, 0.5, "the vision tower of imagebind"),
        TermStep('"bird song.wav"@12s-15s', Modality.AUDIO, -0.3, "the audio tower of imagebind"),
    ),
)
COMPOSITION = Query((Term("image", "fruit.jpg", 0.5), Term("audio", "bird song.wav", -0.3)), to=(Modality.IMAGE,))
GPU = replace(INDEX, device="cuda:0", lists=1024, code_bytes=64)


WORDS = WordStep(("lh", "1234"), ("LH 1234",), 0.5, 870_000, 1_200, alone=False)


def on(facts: PlanFacts, index: IndexFacts | None = INDEX, kept: int = N, **changes: object) -> PlanFacts:
    """`facts` with the image partition changed."""
    return replace(facts, partitions=(replace(IMAGES, index=index, matching_rows=kept, **changes),))  # type: ignore[arg-type]


def filtered(kept: int, index: IndexFacts = INDEX) -> PlanFacts:
    return replace(on(FACTS, index, kept), filter="duration_s > 3 and path like '%2024%'")


def six() -> PlanFacts:
    sizes = {"text": 280_000, "audio": 140_000, "depth": 60_000, "thermal": 8_000, "imu": 0}
    others = tuple(
        PartitionFacts(Modality(name), 1024, n, n, n, replace(INDEX, n=n, lists=1) if n > 10_000 else None)
        for name, n in sizes.items()
    )
    return replace(FACTS, partitions=(others[0], IMAGES, *others[1:]))


def cases() -> dict[str, Callable[[], Plan]]:
    """Every golden file's name and plan."""
    small = PartitionFacts(Modality.IMAGE, 384, 800, 800, 800)
    return {
        "small_store": lambda: make_plan(TEXT, replace(FACTS, partitions=(small,))),
        "text_to_image": lambda: make_plan(TEXT, FACTS),
        "image_to_image": lambda: make_plan(PICTURE, FROM_PICTURE),
        "stand_in": lambda: make_plan(
            TEXT, replace(FACTS, terms=(TermStep("hot.png", Modality.THERMAL, 1.0, "the text tower of imagebind"),))
        ),
        "composed": lambda: make_plan(COMPOSITION, COMPOSED),
        "composed_inside": lambda: make_plan(COMPOSITION, on(COMPOSED, in_distribution=True)),
        "filter_50": lambda: make_plan(TEXT, filtered(N // 2)),
        "filter_10": lambda: make_plan(TEXT, filtered(N // 10)),
        "filter_1": lambda: make_plan(TEXT, filtered(N // 100)),
        "filter_01": lambda: make_plan(TEXT, filtered(N // 1000)),
        "nothing_kept": lambda: make_plan(TEXT, filtered(0)),
        "damaged_index": lambda: make_plan(
            TEXT, on(FACTS, index_error="ivfpq.faiss is damaged: `bindsearch index` rebuilds it")
        ),
        "tail": lambda: make_plan(TEXT, on(FACTS, rows=N + 5_000, live_rows=N + 4_900, kept=N + 4_900)),
        "gpu": lambda: make_plan(TEXT, on(FACTS, GPU)),
        "gpu_filter_50": lambda: make_plan(TEXT, filtered(N // 2, GPU)),
        "gpu_filter_1": lambda: make_plan(TEXT, filtered(N // 100, GPU)),
        "no_gpu": lambda: make_plan(TEXT, replace(FACTS, notes=("no GPU found: the CPU searches",))),
        "k_500": lambda: make_plan(replace(TEXT, k=500), FACTS),
        "diverse": lambda: make_plan(replace(TEXT, diversity=0.4), FACTS),
        "six_per_modality": lambda: make_plan(replace(TEXT, to=tuple(Modality), ranking=Ranking.PER_MODALITY), six()),
        "ready_vector": lambda: make_plan(TEXT, PlanFacts((IMAGES,))),
        "missing_points": lambda: make_plan(
            TEXT, replace(FACTS, terms=(TermStep("walk.csv", Modality.IMU, 1.0, "the text tower of imagebind"),))
        ),
        "words": lambda: replace(make_plan(TEXT, FACTS), words=WORDS),
        "words_alone": lambda: replace(
            make_plan(TEXT, replace(FACTS, partitions=(), filter="duration_s > 3")), words=replace(WORDS, alone=True)
        ),
        "recall_too_low": lambda: make_plan(TEXT, on(FACTS, replace(INDEX, recall=0.995))),
    }


RUN = PlanRun(
    partitions=(
        PartitionRun(Modality.TEXT, 400, 26, 2.31),
        PartitionRun(Modality.IMAGE, 400, 26, 1.07),
        PartitionRun(Modality.AUDIO, 400, 26, 1.4),
        PartitionRun(Modality.DEPTH, 400, 26, 0.61),
        PartitionRun(Modality.THERMAL, 8_000, 26, 0.72),
    ),
    encode_ms=31.2,
    filter_ms=0.0,
    merge_ms=0.084,
    facts_ms=0.21,
    total_ms=37.5,
)


def matches_golden(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("BINDSEARCH_UPDATE_GOLDEN"):
        path.write_text(text + "\n", encoding="utf-8")
    assert text + "\n" == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", cases())
def test_the_plan_reads_as_the_golden_file(name: str) -> None:
    matches_golden(name, explain_plan(cases()[name]()))


def test_the_run_reads_as_the_golden_file() -> None:
    matches_golden("analyze", explain_run(cases()["six_per_modality"](), RUN))


def test_a_search_by_words_reads_as_the_golden_file() -> None:
    run = replace(RUN, partitions=(), words=WordRun(3, 0.127))
    matches_golden("analyze_words", explain_run(cases()["words_alone"](), run))


def test_there_is_no_golden_file_without_a_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {*cases(), "analyze", "analyze_words"}


@pytest.mark.parametrize("name", cases())
def test_the_same_plan_gives_the_same_text_within_the_width(name: str) -> None:
    text = explain_plan(cases()[name]())
    assert text == explain_plan(cases()[name]())
    assert max(map(len, text.splitlines())) <= 100
    assert not any(line != line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("name", cases())
def test_json_holds_plain_values_alone(name: str) -> None:
    plan = cases()[name]()
    for told in (plan_json(plan), run_json(plan, RUN)):
        assert json.loads(json.dumps(told)) == told
        only_plain(told)


def only_plain(value: object) -> None:
    assert type(value) in (dict, list, str, int, float, bool, type(None)), value
    if isinstance(value, dict):
        for key, inner in value.items():
            assert type(key) is str
            only_plain(inner)
    if isinstance(value, list):
        for inner in value:
            only_plain(inner)


def test_json_tells_what_a_probe_was_measured_with() -> None:
    told: Mapping[str, Any] = plan_json(make_plan(TEXT, filtered(N // 2)))
    assert told["filter"] == {"where": "duration_s > 3 and path like '%2024%'", "kept": 210_000, "living": N}
    (step,) = told["partitions"]
    assert step["strategy"] == "probe"
    assert step["measured"]["source"] == "text"
    assert step["measured"]["kept"] == 0.5
    assert set(step["considered"]) == {"scan", "probe"}


def test_json_of_a_run_stands_beside_the_estimates() -> None:
    plan = cases()["six_per_modality"]()
    told = run_json(plan, RUN)
    actual = {step["modality"]: step["actual"] for step in told["partitions"]}  # type: ignore[attr-defined]
    assert actual["image"] == {"scored": 400, "found": 26, "ms": 1.07}
    assert actual["imu"] is None
    assert told["actual"] == {
        "encode_ms": 31.2,
        "filter_ms": 0.0,
        "merge_ms": 0.084,
        "facts_ms": 0.21,
        "total_ms": 37.5,
        "words": None,
    }
    assert {key: value for key, value in told.items() if key not in ("actual", "partitions")} == {
        key: value for key, value in plan_json(plan).items() if key != "partitions"
    }


def test_a_long_label_is_cut_and_a_long_filter_wrapped() -> None:
    facts = replace(
        filtered(N // 2),
        terms=(replace(FACTS.terms[0], label="word\n" * 100),),
        filter=" and ".join(["duration_s > 3"] * 30),
    )
    text = explain_plan(make_plan(TEXT, facts))
    assert "…" in text
    assert max(map(len, text.splitlines())) <= 100
