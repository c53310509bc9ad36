"""Tables of the scale benchmark: of one run, and those of docs/scale.md, which are made from its JSON alone."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import synthetic
from fan_out import Latency, asked_twice, hedged, of_quantiles, resolved, slowest, with_timeout
from results import FOLDER
from scale_model import (
    FILLED,
    FileCost,
    Fleet,
    Machine,
    Need,
    Search,
    Units,
    build_s,
    cached_share,
    code_bytes,
    disk_bytes,
    files_per_s,
    fleet_build_s,
    machines_for,
    memory_bytes,
    shards_for,
)

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
SIZES = {"10M": 10**7, "100M": 10**8, "1B": 10**9}
DIM = 1024
MACHINE = Machine(cores=16, memory=128e9, disk=4e12, reads_per_s=200_000, read_ns=100_000)
TARGET = "image"
QUERIES = (("text", 0.95), ("text", 0.99), ("image", 0.99))
FAN_OUTS = (1, 4, 16, 64, 256)
SHOWN_SHARDS = (1, 4, 16)
CHECKED_RECALL = 0.98
WIDEST = 1600
"""The largest rerank that is tuned: an index that needs more is not counted in the growth."""
DAY_S = 86_400

Figures = Mapping[str, Any]


def as_table(figures: Figures) -> str:
    """Return everything that one run measured, as Markdown."""
    parts = [f"## {title}\n\n{table}" for title, table in measured(figures).items()]
    load = f"with a load of {figures['load']:.1f} in its last quarter of an hour"
    return "\n\n".join([*parts, f"The run took {figures['took_s']} s, {load}."]) + "\n"


def measured(figures: Figures) -> dict[str, str]:
    """Return the tables of what was measured, by title."""
    tables = {"Unit costs": costs_table(figures), "Predicted from smaller sizes": checks_table(figures)}
    if "needs" in figures:
        tables["What queries need of an index"] = needs_table(figures)
    if "built" in figures:
        tables["Building of indexes"] = built_table(figures)
    if "kept" in figures:
        tables["Rows of shards"] = kept_table(figures)
    if "fan_out" in figures:
        tables["Three nodes"] = nodes_table(figures)
    return tables


def page_tables(figures: Figures) -> dict[str, str]:
    """Return the tables of docs/scale.md by name."""
    return {
        "costs": costs_table(figures),
        "checks": checks_table(figures),
        "needs": f"{needs_table(figures)}\n\nRows scored grow with n to the power of {growth(figures):.2f}.",
        "built": built_table(figures),
        "kept": kept_table(figures, SHOWN_SHARDS),
        "nodes": nodes_table(figures),
        "fan-out": fan_out_table(figures),
        "plan": plan_table(figures),
    }


def write_page(figures: Figures) -> Path:
    """Rewrite the tables of docs/scale.md."""
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), figures), encoding="utf-8")
    return PAGE


def with_tables(page: str, figures: Figures) -> str:
    """Return the page with its tables, between comments that name them, made anew; and the file they are from."""
    for name, table in page_tables(figures).items():
        marks = (f"<!-- {name} -->", f"<!-- end of {name} -->")
        page = re.sub(
            re.escape(marks[0]) + ".*?" + re.escape(marks[1]),
            lambda _, table=table, marks=marks: f"{marks[0]}\n\n{table}\n\n{marks[1]}",  # type: ignore[misc]
            page,
            flags=re.DOTALL,
        )
    return re.sub(r"benchmarks/results/\S+-scale\.md", f"benchmarks/results/{figures['file']}", page)


# Measured


def costs_table(figures: Figures) -> str:
    """Return unit costs with their spread."""
    rows = [
        (
            cost["name"],
            number(cost["median"]),
            f"{number(cost['low'])} .. {number(cost['high'])}",
            cost["n"],
            cost["unit"],
        )
        for cost in figures["costs"]
    ]
    return markdown(("name and d", "median", "10% .. 90%", "n", "unit"), rows)


def checks_table(figures: Figures) -> str:
    """Return predictions of the largest size from smaller ones, and of searches from unit costs."""
    checks = [*figures["checks"], *search_checks(figures)]
    rows = [
        (check["name"], check["unit"], number(check["predicted"]), number(check["measured"]), f"{error(check):+.0%}")
        for check in checks
    ]
    return markdown(("figure", "unit", "predicted", "measured", "error"), rows)


def error(check: Mapping[str, float]) -> float:
    """Return the error of a prediction as a share of what was measured."""
    return check["predicted"] / check["measured"] - 1


def search_checks(figures: Figures) -> list[dict[str, Any]]:
    """Return medians of single searches beside those that the unit costs give.

    Of indexes with inverted lists, and of whole searches in the largest store. To both is added what the smaller ones
    took more than their unit costs.
    """
    if not has_costs(figures, ("code_byte_ns", "row_ns")):
        return []
    needs, searches = figures.get("needs", []), figures.get("searches", [])
    checks = [
        {
            "name": f"index alone, {need['source']} -> {need['target']}, {need['n']:,} rows, d={need['dim']}",
            "unit": "ms of a core",
            "predicted": index_ms(figures, need["dim"], need) + beside_index_ms(figures, need),
            "measured": need["ms"],
        }
        for need in needs
        if need["n"] == max(other["n"] for other in needs) and need["recall"] == CHECKED_RECALL
    ]
    return checks + [
        {
            "name": f"search of a store, {found['source']} -> image, {found['n']:,} images, d={DIM}",
            "unit": "ms of a core",
            "predicted": search_ms(figures, DIM) + index_ms(figures, DIM, found),
            "measured": found["core_ms"],
        }
        for found in searches
        if found["n"] == max(other["n"] for other in searches)
    ]


def has_costs(figures: Figures, names: Iterable[str]) -> bool:
    """Return whether costs of these names were measured."""
    return {*names} <= {cost["name"].split()[0] for cost in figures["costs"]}


def index_ms(figures: Figures, dim: int, found: Mapping[str, Any]) -> float:
    """Return the time of index and rows of a search by unit costs: two calls, lists, codes and rows."""
    unit = medians(figures, dim)
    codes = found["probes"] / found["lists"] * found["n"] * found["code_bytes"] * unit["code_byte_ns"]
    lists = found["probes"] * unit["list_ns"]
    return float(2 * unit["call_ns"] + lists + codes + found["rerank"] * unit["row_ns"]) / 1e6


def beside_index_ms(figures: Figures, need: Mapping[str, Any]) -> float:
    """Return the median time beside its unit costs of smaller indexes of the same d, target and recall."""
    alike = [
        other
        for other in figures["needs"]
        if all(other[key] == need[key] for key in ("dim", "target", "recall")) and other["n"] < need["n"]
    ]
    return float(statistics.median([other["ms"] - index_ms(figures, need["dim"], other) for other in alike] or [0.0]))


def search_ms(figures: Figures, dim: int) -> float:
    """Return the median time of a search beside its index and rows, in the smaller stores, at least 0."""
    most = max(found["n"] for found in figures["searches"])
    smaller = [found for found in figures["searches"] if found["n"] < most] or figures["searches"]
    rest = [found["core_ms"] - index_ms(figures, dim, found) for found in smaller]
    return max(0.0, float(statistics.median(rest)))


def sample(found: Mapping[str, Any]) -> Latency:
    """Return the distribution of the latencies of one kind of search."""
    return of_quantiles(found["ms"], found["searches"])


def needs_table(figures: Figures) -> str:
    """Return share of codes and rows scored exactly for each pair and recall, at the largest n."""
    recalls = sorted({need["recall"] for need in figures["needs"]})
    keys = list(dict.fromkeys((n["dim"], n["source"], n["target"], n["n"]) for n in figures["needs"]))
    rows = []
    for dim, source, target, n in keys:
        found = {
            need["recall"]: need
            for need in figures["needs"]
            if (need["dim"], need["source"], need["target"], need["n"]) == (dim, source, target, n)
        }
        shares = [f"{found[recall]['codes']:.1%}, {found[recall]['rerank']}" for recall in recalls]
        rows.append((dim, f"{source} -> {target}", f"{n:,}", *shares))
    return markdown(("d", "queries", "rows", *(f"recall@10 {recall}: codes, rows scored" for recall in recalls)), rows)


def built_table(figures: Figures) -> str:
    """Return core-seconds of training and adding by the number of rows."""
    rows = [
        (
            built["dim"],
            f"{built['n']:,}",
            built["lists"],
            number(built["train_s"]),
            number(built["add_s"]),
            number(built["n"] / (built["train_s"] + built["add_s"])),
        )
        for built in figures["built"]
    ]
    return markdown(("d", "rows", "lists", "training, s", "adding, s", "rows a second of a core"), rows)


def kept_table(figures: Figures, counts: Collection[int] = range(2**16)) -> str:
    """Return the least recall over the modalities of queries, and rows read, of each rule and number of shards."""
    groups: dict[tuple[int, str, int], list[Mapping[str, Any]]] = {}
    for kept in (kept for kept in figures["kept"] if kept["shards"] in counts):
        groups.setdefault((kept["segments"], kept["rule"], kept["shards"]), []).append(kept)
    rows = []
    for (segments, rule, shards), found in groups.items():
        recalls = [f"{min(kept['recall'] for kept in found if kept['case']['k'] == k):.3f}" for k in (10, 100)]
        read = [
            f"{statistics.fmean(k['rows'] * k['shards'] for k in found if k['case']['k'] == wanted):,.0f}"
            for wanted in (10, 100)
        ]
        rows.append((segments, shards, rule, *recalls, *read))
    columns = ("segments a file", "shards", "rows of a shard", "recall@10", "recall@100", "rows in all, k=10", "k=100")
    return markdown(columns, rows)


def nodes_table(figures: Figures) -> str:
    """Return quantiles of searches over the nodes of one machine, predicted and measured."""
    rows = [
        (name, *(f"{found[p]:.2f}" for p in ("0.5", "0.9", "0.99"))) for name, found in figures["fan_out"]["ms"].items()
    ]
    return markdown(("latency, ms", "p50", "p90", "p99"), rows)


# Planned


def medians(figures: Figures, dim: int) -> dict[str, float]:
    """Return the unit costs of d dimensions, and those that have none, by name."""
    costs = {}
    for cost in figures["costs"]:
        name, _, of = cost["name"].partition(" ")
        if of in ("", str(dim)):
            costs[name] = cost["median"]
    return costs


def tail_of(figures: Figures) -> Mapping[str, Any]:
    """Return the searches whose spread stands for that of a shard: by text, in the largest store."""
    found: Mapping[str, Any] = max(figures["searches"], key=lambda found: (found["n"], found["source"] == "text"))
    return found


def tail_searches(figures: Figures) -> int:
    """Return the number of these searches."""
    return int(tail_of(figures)["searches"])


def units_of(figures: Figures, dim: int = DIM) -> Units:
    """Return the unit costs of d dimensions."""
    unit = medians(figures, dim)
    one = sample(tail_of(figures))
    return Units(
        dim=dim,
        search_ms=search_ms(figures, dim),
        send_us=unit["call_of_many_us"],
        spread=one.scaled(1 / one.quantile(0.5)),
        **{
            name: unit[name]
            for name in (
                "id_bytes",
                "snapshot_bytes",
                "catalog_bytes",
                "words_bytes",
                "resident_bytes",
                "code_byte_ns",
                "list_ns",
                "call_ns",
                "row_ns",
                "commit_us",
                "train_fixed_s",
                "train_gflop_s",
                "add_gflop_s",
                "hop_us",
            )
        },
    )


def growth(figures: Figures) -> float:
    """Return the exponent by which the rows scored grow with n: the mean over neighbouring sizes, at least 0."""
    by_kind: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    for need in figures["needs"]:
        kind = (need["dim"], need["source"], need["target"], need["recall"])
        by_kind.setdefault(kind, []).append((need["n"], need["rerank"]))
    slopes = [
        math.log(more[1] / few[1]) / math.log(more[0] / few[0])
        for sizes in by_kind.values()
        for few, more in pairwise(sorted(sizes))
        if more[1] < WIDEST
    ]
    return max(0.0, statistics.fmean(slopes)) if slopes else 0.0


def need_of(figures: Figures, source: str, recall: float, dim: int = DIM) -> Need:
    """Return what queries of a modality need for images at the largest n."""
    found = [
        need
        for need in figures["needs"]
        if (need["dim"], need["source"], need["target"], need["recall"]) == (dim, source, TARGET, recall)
    ]
    need = max(found, key=lambda need: need["n"])
    return Need(need["n"], need["codes"], need["rerank"], growth(figures))


def fan_out_table(figures: Figures) -> str:
    """Return quantiles of the slowest of S shards, as multiples of one shard's median."""
    one = units_of(figures).spread
    after = one.quantile(0.95)
    again = hedged(one, after)
    rows = []
    for shards in FAN_OUTS:
        plain, twice = slowest(one, shards), slowest(again, shards)
        answered = with_timeout(one, shards, one.quantile(0.99))
        mark = "" if resolved(tail_searches(figures), shards, 0.99) else " *"
        rows.append(
            (
                shards,
                *(f"{plain.quantile(p):.2f}" for p in (0.5, 0.9)),
                f"{plain.quantile(0.99):.2f}{mark}",
                f"{twice.quantile(0.5):.2f}",
                f"{twice.quantile(0.99):.2f}{mark}",
                f"{asked_twice(one, after):.0%}",
                f"{answered.complete:.0%}",
                f"{answered.missing:.2f}",
            )
        )
    columns = (
        "shards",
        "p50",
        "p90",
        "p99",
        "hedged p50",
        "hedged p99",
        "asked twice",
        "complete with a timeout",
        "shards missing",
    )
    return markdown(columns, rows)


def plan_table(figures: Figures) -> str:
    """Return the plan for each number of vectors: with the fewest machines, and with all rows in memory."""
    units = units_of(figures)
    columns = ["", *(f"{name}{more}" for name in SIZES for more in ("", ", rows in memory"))]
    plans = [plan(figures, units, vectors, cached) for vectors in SIZES.values() for cached in (False, True)]
    return markdown(columns, [(name, *(plan[name] for plan in plans)) for name in plans[0]])


def plan(figures: Figures, units: Units, vectors: int, cached: bool) -> dict[str, str]:
    """Return the plan for a number of vectors, formatted, by the name of each figure."""
    machines = machines_for(units, vectors, MACHINE)
    if cached:
        a_vector = memory_bytes(units, 10**7) + units.row_bytes
        machines = max(machines, math.ceil(vectors * a_vector / (FILLED * MACHINE.memory)))
    fleet = Fleet(vectors, shards_for(vectors, machines, MACHINE), machines, MACHINE, synthetic.SHARES[TARGET])
    rows = fleet.target_rows
    tables = units.snapshot_bytes + units.catalog_bytes + units.words_bytes
    lines = {
        "machines": f"{machines:,}",
        "shards": f"{fleet.shards:,}",
        "vectors a shard": f"{fleet.shard_rows:,.0f}",
        "disk: rows": size(vectors * units.row_bytes),
        "disk: indexes": size(vectors * (code_bytes(units, rows) + units.id_bytes)),
        "disk: snapshot, catalog, words": size(vectors * tables),
        "disk in all": size(vectors * disk_bytes(units, rows)),
        "memory beside rows": size(vectors * memory_bytes(units, rows)),
        "rows in the page cache": f"{cached_share(units, fleet):.0%}",
        "indexes of a shard, one core": duration(build_s(units, fleet, synthetic.SHARES)),
        "indexes of all": duration(fleet_build_s(units, fleet, synthetic.SHARES)),
    }
    for name, files in (("mini on the cores", files_on_cores()), ("ImageBind, a GPU a machine", files_on_gpus())):
        rate = files_per_s(units, fleet, files, synthetic.SHARES)
        lines[f"files a second, {name}"] = number(rate)
        lines[f"all files, {name}"] = duration(vectors / rate)
    for source, recall in QUERIES:
        search = Search(units, fleet, need_of(figures, source, recall))
        latency = search.latency()
        kind = f"{source} -> {TARGET}, recall {recall}"
        lines[f"{kind}: queries/s"] = number(search.queries_per_s)
        mark = "" if resolved(tail_searches(figures), fleet.shards, 0.99) else " *"
        lines[f"{kind}: p50, p99 ms"] = f"{number(latency.quantile(0.5))}, {number(latency.quantile(0.99))}{mark}"
        lines[f"{kind}: rows scored, of these read from disks"] = (
            f"{number(fleet.shards * search.rows)}, {number(search.reads)}"
        )
    return lines


# Rates of other benchmarks

FILE_KINDS = {"image": "2-megapixel JPEGs", "audio": "10 s of stereo wav, 44.1 kHz"}
SMALL_FILES = "50,000"
"""Row of the memory table of the ingestion benchmark: files of 1 KB with the encoder null, on two cores."""
BENCHMARK_CORES = 2
AS_IMAGE, AS_SMALL = ("depth", "thermal"), ("text", "imu")


def files_on_cores() -> dict[str, FileCost]:
    """Return the core-seconds of whole runs with `mini`; depth and thermal pictures count as images."""
    rows = table_rows(newest("ingestion"), "files", "c: whole /s")
    costs = {name: FileCost(BENCHMARK_CORES / float(rows[kind]), 0.0) for name, kind in FILE_KINDS.items()}
    return _all_kinds(costs, small_file())


def files_on_gpus() -> dict[str, FileCost]:
    """Return the core-seconds of workers that decode, and seconds of a GPU for ImageBind's towers."""
    decoded = table_rows(newest("ingestion"), "files", "a: workers /s")
    embedded = table_rows(newest("gpu"), "tower", "media/s")
    costs = {name: FileCost(BENCHMARK_CORES / float(decoded[kind]), 0.0) for name, kind in FILE_KINDS.items()}
    return {
        name: FileCost(cost.core_s, 1 / float(embedded[name])) for name, cost in _all_kinds(costs, small_file()).items()
    }


def small_file() -> FileCost:
    """Return the core-seconds of a file of about 1 KB."""
    for line in newest("ingestion").splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if cells[:2] == ["null", SMALL_FILES]:
            return FileCost(BENCHMARK_CORES * float(cells[2]) / int(SMALL_FILES.replace(",", "")), 0.0)
    raise LookupError(f"no row of {SMALL_FILES} files in the newest ingestion benchmark")


def _all_kinds(costs: Mapping[str, FileCost], small: FileCost) -> dict[str, FileCost]:
    return {**costs, **dict.fromkeys(AS_IMAGE, costs["image"]), **dict.fromkeys(AS_SMALL, small)}


def newest(name: str) -> str:
    """Return the text of the newest results of a benchmark."""
    return max(FOLDER.glob(f"*-{name}.md")).read_text(encoding="utf-8")


def table_rows(text: str, key: str, column: str) -> dict[str, str]:
    """Return one column of the table of a Markdown text that begins with the column `key`, by that column."""
    rows: dict[str, str] = {}
    header: list[str] | None = None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if header is None and cells[0] == key and column in cells:
            header = cells
        elif header is not None:
            if not line.startswith("|"):
                break
            if set(cells[0]) != {"-"}:
                rows[cells[0]] = cells[header.index(column)]
    return rows


# Formats


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def number(value: float) -> str:
    """Return a number with three digits, in full from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def size(count: float) -> str:
    """Return a number of bytes in GB or TB."""
    return f"{count / 1e12:.3g} TB" if count >= 1e12 else f"{count / 1e9:.3g} GB"


def duration(seconds: float) -> str:
    """Return a time in minutes, hours or days."""
    if seconds < 5400:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h" if seconds < 2 * DAY_S else f"{seconds / DAY_S:.3g} days"
