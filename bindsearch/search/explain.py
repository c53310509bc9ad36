"""Plans and their measurements as text and as JSON data."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict

from bindsearch.indexes.types import point_record
from bindsearch.search.plan import PartitionRun, PartitionStep, Plan, PlanRun, Strategy, TermStep, WordStep
from bindsearch.search.planner import format_ms
from bindsearch.types import Modality

WIDTH = 100
"""Width in columns to which notes, filters and reasons are wrapped."""

LABEL_WIDTH = 48
"""Maximum width of a term's label in columns."""

MARGIN = " " * 11
"""Indentation of lines that belong to a heading at the start of a line."""

Json = dict[str, object]
Row = list[str]


def explain_plan(plan: Plan) -> str:
    """Return a plan as text, without a final newline; equal plans give equal texts."""
    return _text(plan, None)


def explain_run(plan: Plan, run: PlanRun) -> str:
    """Return a plan as text, with measured times and rows next to the estimates."""
    return _text(plan, run)


def plan_json(plan: Plan) -> Json:
    """Return a plan as JSON data (str, int, float, bool, None, lists and dicts).

    Keys: `terms` (label, source, weight, load); `filter` (where, kept, living) or None; `partitions` (modality,
    strategy, rows, living, kept, want, lists, probes, rerank, tail, recall, measured, estimate_ms, considered, reason,
    and shard in a sharded store); `rank`; `k`; `diverse`; `min_match`; `copies`; `words` (tokens, names, share, fields,
    tail, alone) or None; `estimate_ms`; `notes`. `measured` has the fields of the operating point that the settings are
    from, or None; `considered` has milliseconds by strategy. Milliseconds are rounded to 0.0001.
    """
    return {
        "terms": [_term_json(term) for term in plan.terms],
        "filter": None if plan.filter is None else {"where": plan.filter, **_row_counts(plan)},
        "partitions": [_step_json(step) for step in plan.partitions],
        "rank": plan.ranking.value,
        "k": plan.k,
        "diverse": plan.diversity,
        "min_match": plan.min_match,
        "copies": plan.copies,
        "words": None if plan.words is None else _words_json(plan.words),
        "estimate_ms": _round_ms(plan.estimate_ms),
        "notes": list(plan.notes),
    }


def run_json(plan: Plan, run: PlanRun) -> Json:
    """Return `plan_json` with measurements under the key `actual`.

    For each partition: scored, found and ms, or None if it was skipped. For the whole plan: encode_ms, filter_ms,
    merge_ms, facts_ms, total_ms and words (found, ms; None if words
    were not searched).
    """
    runs = _by_partition(run)
    steps = [{**_step_json(step), "actual": _part_json(runs.get(_key(step)))} for step in plan.partitions]
    actual: Json = {name: _round_ms(ms) for name, ms in asdict(run).items() if name not in ("partitions", "words")}
    actual["words"] = None if run.words is None else {"found": run.words.found, "ms": _round_ms(run.words.ms)}
    return {**plan_json(plan), "partitions": steps, "actual": actual}


def _text(plan: Plan, run: PlanRun | None) -> str:
    blocks = [
        _query_lines(plan, run),
        _filter_lines(plan, run),
        _partition_lines(plan, run),
        _word_lines(plan, run),
        _merge_lines(plan, run),
        _total_lines(plan, run),
        *(_wrapped("note", note) for note in plan.notes),
    ]
    return "\n".join(line.rstrip() for block in blocks for line in block)


def _query_lines(plan: Plan, run: PlanRun | None) -> list[str]:
    """Return a line per term, such as `query  0.5 x image:fruit.jpg  image  the ImageBind vision tower`."""
    rows = [
        [f"{term.weight:.3g} x", _cut(term.label), term.source.value if term.source else "-", term.cost_note]
        for term in plan.terms
    ]
    lines = _aligned(rows, right={0})
    if run:
        lines.append(f"encoded in {format_ms(run.encode_ms)}")
    return _block("query", lines)


def _filter_lines(plan: Plan, run: PlanRun | None) -> list[str]:
    if plan.filter is None:
        return ["filter     none"]
    if not plan.partitions:
        return _wrapped("filter", plan.filter)
    counts = _row_counts(plan)
    share = f" ({100 * counts['kept'] / counts['living']:.3g}%)" if counts["living"] else ""
    matches = f"matches {counts['kept']:,} of {counts['living']:,} rows{share}"
    if run:
        matches += f", evaluated in {format_ms(run.filter_ms)}"
    return [*_wrapped("filter", plan.filter), MARGIN + matches]


def _partition_lines(plan: Plan, run: PlanRun | None) -> list[str]:
    """Return a table with a row per partition, without columns that are empty for all partitions.

    Below it is the reason for its step; of the shards' partitions of one modality, that of the slowest.
    """
    if not plan.partitions:
        return []
    runs = _by_partition(run) if run else {}
    header = ["partition", "shard", "strategy", "rows", "matching", "lists", "rerank", "tail", "fetch", "estimate"]
    header += ["actual", "scored", "found", "recall"] if run else ["recall"]
    rows = [header, *(_row(step, runs, analyzed=run is not None) for step in plan.partitions)]
    shown = [column for column in range(len(header)) if any(row[column] != "-" for row in rows[1:])]
    rows = [[row[column] for column in shown] for row in rows]
    left_aligned = {0, len(shown) - 1, shown.index(header.index("strategy"))}
    lines = _aligned(rows, right=set(range(len(shown))) - left_aligned)
    text = [lines[0]]
    slowest: dict[Modality, PartitionStep] = {}
    for step in plan.partitions:
        if step.modality not in slowest or step.estimate_ms > slowest[step.modality].estimate_ms:
            slowest[step.modality] = step
    for line, step in zip(lines[1:], plan.partitions, strict=True):
        text += [line, *(_wrap(step.reason) if slowest[step.modality] is step else ())]
    return text


def _by_partition(run: PlanRun) -> dict[tuple[Modality, int | None], PartitionRun]:
    return {_key(part): part for part in run.partitions}


def _key(part: PartitionStep | PartitionRun) -> tuple[Modality, int | None]:
    return part.modality, part.shard


def _row(step: PartitionStep, runs: dict[tuple[Modality, int | None], PartitionRun], *, analyzed: bool) -> Row:
    skipped = step.strategy is Strategy.SKIP
    row = [
        step.modality.value,
        "-" if step.shard is None else str(step.shard),
        step.strategy.value,
        f"{step.rows:,}",
        f"{step.matching_rows:,}",
        f"{step.probes:,} of {step.lists:,}" if step.probes else "-",
        f"{step.rerank:,}" if step.rerank else "-",
        f"{step.tail:,}" if step.tail else "-",
        f"{step.fetch_rows:,}",
        "-" if skipped else format_ms(step.estimate_ms),
    ]
    if analyzed:
        part = runs.get(_key(step))
        row += [format_ms(part.ms), f"{part.scored:,}", f"{part.found:,}"] if part else ["-", "-", "-"]
    return [*row, _recall(step)]


def _recall(step: PartitionStep) -> str:
    """Return the recall with the source of the queries that it was measured with, such as `0.984 (text)`."""
    if step.strategy is Strategy.SKIP:
        return "-"
    if step.recall is None:
        return "not measured"
    if step.point is None:
        return "exact"
    return f"{step.recall:.3f} ({step.point.fallback_source or step.point.source})"


def _word_lines(plan: Plan, run: PlanRun | None) -> list[str]:
    """Return what is searched by words, such as `lh, 1234 in 25,310 names and texts`."""
    step = plan.words
    if step is None:
        return []
    parts = [f"{', '.join(step.tokens)} in {step.fields:,} names and texts"]
    if step.tail:
        parts.append(f"{step.tail:,} of them without an index")
    if step.share < 1:
        parts.append(f"{step.share:.3g} of the query")
    if run is not None and run.words is not None:
        parts.append(f"found {run.words.found:,} in {format_ms(run.words.ms)}")
    return _wrapped("words", ", ".join(parts))


def _merge_lines(plan: Plan, run: PlanRun | None) -> list[str]:
    parts = [f"ranked by {plan.ranking}" if plan.ranking != "per-modality" else "a list per modality"]
    parts.append(f"best {plan.k:,} items, one hit each{'' if plan.copies else ' with its copies'}")
    if plan.min_match:
        parts.append(f"probability at least {plan.min_match:g}")
    if plan.diversity:
        parts.append(f"diversity {plan.diversity:g}")
    if run:
        parts.append(f"merged in {format_ms(run.merge_ms)}, metadata in {format_ms(run.facts_ms)}")
    return _wrapped("merge", ", ".join(parts))


def _total_lines(plan: Plan, run: PlanRun | None) -> list[str]:
    if not plan.partitions:
        return [] if run is None else _wrapped("total", f"{format_ms(run.total_ms)} in total")
    total = f"{format_ms(plan.estimate_ms)} estimated for the partitions"
    if run:
        searched = sum(part.ms for part in run.partitions)
        total += f", {format_ms(searched)} actual; {format_ms(run.total_ms)} in total"
    return _wrapped("total", total)


def _block(name: str, lines: Sequence[str]) -> list[str]:
    return [f"{name:<{len(MARGIN)}}{lines[0]}", *(MARGIN + line for line in lines[1:])]


def _wrapped(name: str, text: str) -> list[str]:
    return _block(name, [line.removeprefix(MARGIN) for line in _wrap(text)])


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=MARGIN, subsequent_indent=MARGIN, break_on_hyphens=False)


def _aligned(rows: Sequence[Row], right: set[int]) -> list[str]:
    """Align rows in columns two spaces apart; the columns in `right` are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _cut(label: str) -> str:
    label = " ".join(label.split())
    return label if len(label) <= LABEL_WIDTH else label[: LABEL_WIDTH - 1] + "…"


def _row_counts(plan: Plan) -> dict[str, int]:
    return {
        "kept": sum(step.matching_rows for step in plan.partitions),
        "living": sum(step.live_rows for step in plan.partitions),
    }


def _words_json(step: WordStep) -> Json:
    return {**asdict(step), "tokens": list(step.tokens), "names": list(step.names)}


def _term_json(term: TermStep) -> Json:
    source = term.source.value if term.source else None
    return {"label": term.label, "source": source, "weight": term.weight, "load": term.cost_note}


def _step_json(step: PartitionStep) -> Json:
    return {
        "modality": step.modality.value,
        "strategy": step.strategy.value,
        "rows": step.rows,
        "living": step.live_rows,
        "kept": step.matching_rows,
        "want": step.fetch_rows,
        "lists": step.lists,
        "probes": step.probes,
        "rerank": step.rerank,
        "tail": step.tail,
        "recall": step.recall,
        "measured": point_record(step.point) if step.point else None,
        "estimate_ms": _round_ms(step.estimate_ms),
        "considered": {strategy.value: _round_ms(ms) for strategy, ms in step.alternatives},
        "reason": step.reason,
        **({} if step.shard is None else {"shard": step.shard}),
    }


def _part_json(part: PartitionRun | None) -> Json | None:
    return {"scored": part.scored, "found": part.found, "ms": _round_ms(part.ms)} if part else None


def _round_ms(ms: float) -> float:
    return round(ms, 4)
