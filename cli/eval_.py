"""`bindsearch eval`: measure an encoder on data sets, or the indexes and vectors of a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from bindsearch.cli.options import DeviceOption, JsonOption, StoreOption, argument, option
from bindsearch.cli.output import picked, print_json, print_line, print_notices
from bindsearch.cli.progress import show_rows
from bindsearch.cli.settings.complete import complete_encoders
from bindsearch.errors import EXIT_SOME_FAILED, UsageError

if TYPE_CHECKING:
    from bindsearch.evaluation.report.data import Report

EXIT_BELOW = 1
"""Exit code where a figure is below what a suite wants of it."""

MAX_SHOTS = 16
OF_STORE = ("engine", "space")


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """Data to measure an encoder on, the encoder, and how."""

    data: Annotated[Path | None, option("--data DIR", "Folder of the data set, or of several.")] = None
    encoder: Annotated[str, option("--encoder NAME", "Encoder to measure.", complete_encoders)] = "mini"
    split: Annotated[str | None, option("--split NAME", "Part of the data set; default: the published one.")] = None
    modality: Annotated[
        str | None, option("--modality M", "Modality of the files of a CSV, if their extensions are those of pictures.")
    ] = None
    templates: Annotated[
        str | None, option("--templates SET", "Prompt templates: general, imagenet, sound, motion, none, or a file.")
    ] = None
    shots: Annotated[
        str | None, option("--shots K,K", "Train linear probes too, with so many samples a class, 1,2,4,8.")
    ] = None
    sample: Annotated[int | None, option("--sample N", "Measure an even sample of N items of each set.", min=2)] = None
    cache: Annotated[
        Path | None,
        option("--cache DIR", "Folder to keep vectors in: the next run is fast, an interrupted one continues."),
    ] = None


def eval_command(
    what: Annotated[
        str,
        argument(
            "WHAT",
            "Data set (`sets` lists them), paper, a CSV of path and label or caption, a suite in TOML; or engine "
            "or space, of a store.",
        ),
    ],
    *,
    options: EvalOptions,
    html: Annotated[Path | None, option("--html FILE", "Also write one HTML file with charts and examples.")] = None,
    device: DeviceOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> int:
    """Measure an encoder on data sets by published protocols, or a store's indexes and vectors.

    What the data allow is measured: zero-shot classification, retrieval, combinations of modalities, few-shot probes,
    geometry and calibration. Exits with 3 if items could not be embedded, with 1 if a figure is below what a suite
    wants.

    Examples: bindsearch eval esc50 --data ESC-50 --html report.html
    bindsearch eval my-photos.csv --encoder mini
    bindsearch eval paper --data datasets --cache vectors
    bindsearch eval engine --store photos
    """
    if what == "sets":
        _print_sets(as_json=json)
        return 0
    from bindsearch.evaluation.report.data import report_data, report_lines

    if html is not None:
        from bindsearch.views.html_page import check_target

        check_target(html)
    report = _of_store(what, store, device) if what in OF_STORE else _of_data(what, options, device)
    if html is not None:
        from bindsearch.evaluation.report.page import write_report

        write_report(html, report)
    if json:
        print_json({**report_data(report), "html": None if html is None else str(html.absolute())})
    else:
        for line in report_lines(report):
            print_line(line)
    print_notices(report.notes)
    if not report.is_reached:
        return EXIT_BELOW
    return EXIT_SOME_FAILED if any(one.failures for one in report.sets) else 0


def _of_data(what: str, options: EvalOptions, device: str) -> Report:
    """Return the report on a data set, the paper's, a CSV or a suite."""
    from bindsearch.arguments import to_choice
    from bindsearch.encoders.registry import load_encoder
    from bindsearch.encoders.torch_runtime.device import Runtime
    from bindsearch.encoders.zero_shot import read_templates
    from bindsearch.evaluation.runs import model_for, run_list, run_paper, run_set, run_suite
    from bindsearch.evaluation.tasks.measure import Work
    from bindsearch.evaluation.vector_cache import VectorCache
    from bindsearch.types import Modality

    place, folder = Path(what), options.data or Path()
    split, sample = options.split, options.sample
    shots = _numbers(options.shots)
    kind = _kind(what, options.data)
    if options.templates is not None:
        read_templates(options.templates)
    loaded = load_encoder(options.encoder, runtime=Runtime(device))
    kept = None if options.cache is None else VectorCache(options.cache, loaded)
    with show_rows("measuring") as (on_rows, on_stage):
        how: dict[str, Any] = {"templates": options.templates, "shots": shots, "model": model_for(loaded)}
        work = Work(loaded, kept, **how, on_rows=on_rows, on_stage=on_stage)
        if kind == "csv":
            modality = None if options.modality is None else to_choice(options.modality, Modality, "modality")
            return run_list(place, work, split, sample, modality)
        if kind == "suite":
            return run_suite(place, folder, work, sample)
        if kind == "paper":
            return run_paper(folder, work, sample)
        return run_set(what, folder, work, split, sample)


def _kind(what: str, data: Path | None) -> str:
    """Return what is measured: csv, suite, paper or set. Raises UsageError: it is none, or --data is missing."""
    from bindsearch.arguments import did_you_mean, shown
    from bindsearch.evaluation.datasets.registry import DATASETS

    suffix = Path(what).suffix.lower()
    if suffix == ".csv":
        return "csv"
    kind = "suite" if suffix == ".toml" else "paper" if what == "paper" else "set"
    if kind == "set" and what not in DATASETS:
        near = did_you_mean(what, [*DATASETS, "paper", *OF_STORE])
        if Path(what).is_dir():
            raise UsageError(f"{what} is a folder: name its data set, such as `bindsearch eval esc50 --data {what}`")
        raise UsageError(
            f"unknown data set {shown(what)}: {near}`bindsearch eval sets` lists them; or give a CSV or a suite in TOML"
        )
    if data is None:
        raise UsageError(f"{what} needs data: give their folder with --data DIR")
    return kind


def _of_store(what: str, store: str | None, device: str) -> Report:
    """Return the report on a store's indexes or vectors."""
    from bindsearch.evaluation.runs import run_engine, run_space
    from bindsearch.evaluation.tasks.measure import Work
    from bindsearch.shards.connect import connect

    with connect(store, device=device) as opened, show_rows("measuring") as (on_rows, on_stage):
        generation = opened.generation()
        work = Work(opened.encoder, on_rows=on_rows, on_stage=on_stage)
        return (run_engine if what == "engine" else run_space)(generation, work)


def _numbers(text: str | None) -> tuple[int, ...]:
    """Return the numbers of a list such as "1,2,4". Raises UsageError: it is not a list of numbers from 1."""
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= 1000 for part in parts) or len(parts) > MAX_SHOTS:
        raise UsageError(f"--shots is {text!r}: give numbers of samples a class, such as 1,2,4,8")
    return tuple(dict.fromkeys(map(int, parts)))


def _print_sets(*, as_json: bool) -> None:
    """Print the data sets that can be read."""
    from bindsearch.evaluation.datasets.registry import DATASETS

    if as_json:
        names = "summary modality metric layout splits origin licence"
        print_json({"known": [{"name": name, **picked(one, names)} for name, one in DATASETS.items()]})
        return
    for name, one in DATASETS.items():
        print_line(f"{name}: {one.summary}")
        print_line(f"    {one.modality}, {one.metric}, splits {', '.join(one.splits) or 'those of the list'}")
        print_line(f"    in --data: {one.layout}")
        print_line(f"    from {one.origin}; licence: {one.licence}")
