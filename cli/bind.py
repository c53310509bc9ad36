"""`bindsearch bind`: train a tower for a new modality towards the space of an encoder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from bindsearch.cli.options import DeviceOption, JsonOption, option
from bindsearch.cli.output import picked, plural, print_json, print_line, print_message, print_notices
from bindsearch.cli.progress import show_steps
from bindsearch.cli.settings.complete import complete_encoders, complete_modality
from bindsearch.errors import UsageError

if TYPE_CHECKING:
    from bindsearch.binding.bind import BindOptions, BindResult
    from bindsearch.binding.training.train import StepReport
    from bindsearch.binding.training.validation import Validation

STAGES = {"decode": "decoding", "embed": "embedding", "features": "features", "train": "training"}
MAX_SWEEP = 32


def bind_command(
    pairs: Annotated[
        Path,
        option(
            "--pairs FILE",
            "CSV file: a column for the new modality, one for its partner (image, ...). With --bridge: captions.",
        ),
    ],
    out: Annotated[str, option("--out NAME", "Name of the new encoder, loaded as bound:NAME.")],
    modality: Annotated[
        str | None, option("--modality M", "The new modality, such as thermal.", complete_modality)
    ] = None,
    bridge: Annotated[
        str | None,
        option(
            "--bridge NAME",
            "Instead of training a tower: map the vectors of this encoder to the hub's, by captions.",
            complete_encoders,
        ),
    ] = None,
    hub: Annotated[str, option("--hub NAME", "Encoder whose space it is bound to.", complete_encoders)] = "mini",
    set_: Annotated[
        list[str] | None, option("--set NAME=VALUE", "Set the network, the recipe or an augmentation. Repeatable.")
    ] = None,
    sweep: Annotated[
        str | None, option("--sweep NAME=A,B,...", "Train once for each value, such as batch=32,64,128, and compare.")
    ] = None,
    work: Annotated[Path | None, option("--work DIR", "Keep checkpoint, log and decoded files in this folder.")] = None,
    restart: Annotated[bool, option("--restart", "Begin again even if there is a checkpoint.")] = False,
    replace: Annotated[bool, option("--replace", "Replace an installed encoder of that name.")] = False,
    templates: Annotated[
        str, option("--templates NAME|FILE", "Templates for the names of labels in validation.")
    ] = "general",
    tensorboard: Annotated[Path | None, option("--tensorboard DIR", "Also write events for TensorBoard.")] = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> int:
    """Bind a new modality to an encoder: train a tower on pairs, and install both as a new encoder.

    The encoder stays as it is; the tower learns to give a thermal picture, a motion log or a sound the vector that the
    encoder gives its partner. Then texts and all other modalities find it too. Interrupted runs are resumed.

    Example: bindsearch bind --pairs pairs.csv --modality thermal --hub mini --out night --set network=hub
    Two encoders as one: bindsearch bind --pairs captions.csv --hub NAME --bridge NAME --out hearing
    """
    from bindsearch.binding.bind import BindOptions, bind, check_run

    if (modality is None) == (bridge is None):
        raise UsageError("give either --modality, to train a tower, or --bridge, to map the vectors of an encoder")
    if bridge is not None:
        given = {"--set": set_, "--sweep": sweep, "--work": work, "--restart": restart, "--tensorboard": tensorboard}
        if unused := next((option for option, value in given.items() if value), None):
            raise UsageError(f"{unused} has no effect on --bridge, which is fitted in one step: omit it")
        return _bridge(pairs, hub, bridge, out, BindOptions(replace=replace, device=device), json=json)
    assert modality is not None
    options = BindOptions(work, restart, replace, device, templates, tensorboard)
    if sweep is not None and work is None:
        raise UsageError("--sweep needs --work DIR: there files are decoded and embedded once for all runs")
    results: list[BindResult] = []
    runs = [(name, [*(set_ or []), *extra]) for name, extra in _runs(out, sweep)]
    for name, settings in runs:
        check_run(name, modality, settings, options)
    for name, settings in runs:
        with _progress(name) as (show, show_step):
            result = bind(
                pairs, modality, hub, name, settings=settings, options=options, on_progress=show, on_step=show_step
            )
        if result.manifest is None:  # another process of torchrun shows it
            continue
        print_notices(result.notes if not results else ())
        results.append(result)
    if json and results:
        print_json({"runs": [_as_json(result) for result in results]})
    for result in () if json else results:
        _print_result(result)
    return 0


def _bridge(pairs: Path, hub: str, second: str, out: str, options: BindOptions, *, json: bool) -> int:
    """Make a bridge between two encoders and show its figures."""
    from bindsearch.binding.bridge import bind_bridge

    with _progress(out) as (show, _):
        result = bind_bridge(pairs, hub, second, out, options=options, on_embedded=show)
    print_notices(result.notes)
    if json:
        figures = [asdict(figure) for figure in result.figures]
        data = {"name": result.manifest.name, "captions": result.captions, "figures": figures}
        print_json({**data, "notes": result.notes})
        return 0
    print_line(f"{result.manifest.name} installed: {plural(result.captions, 'caption')}")
    for figure in result.figures:
        print_line(
            f"held-out {figure.modality} of {second} to captions of {hub}: R@1 {figure.recall_at_1:.3f}, "
            f"R@10 {figure.recall_at_10:.3f} of {figure.candidates}"
        )
    print_line(f"use it with: bindsearch index PATH --encoder {result.manifest.name}")
    return 0


def _runs(out: str, sweep: str | None) -> list[tuple[str, Sequence[str]]]:
    """Return the name and the additional settings of each run. Raises UsageError: the sweep is not NAME=A,B,..."""
    if sweep is None:
        return [(out, ())]
    name, _, texts = sweep.partition("=")
    values = [text.strip() for text in texts.split(",") if text.strip()]
    if not (name.strip() and len(values) > 1 and len(set(values)) == len(values) <= MAX_SWEEP):
        raise UsageError(f"--sweep {sweep}: write NAME and 2 to {MAX_SWEEP} different values, such as batch=32,64,128")
    return [(f"{out}-{name.strip()}-{value}", (f"{name.strip()}={value}",)) for value in values]


@contextmanager
def _progress(name: str) -> Iterator[tuple[Callable[[str, int, int], None], Callable[[StepReport], None]]]:
    """Yield callbacks that show the progress of a run: bars in a terminal, else a line for each validation."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[figures]}")
    with show_steps(STAGES, TextColumn("{task.description:9}"), *columns) as show:
        last = ""

        def show_step(report: StepReport) -> None:
            nonlocal last
            if report.validation is not None:
                last = _figures(report.validation)
                if not sys.stderr.isatty():
                    print_message(f"{name}: step {report.step} of {report.steps}, loss {report.loss:.3f}, {last}")
            figures = f"loss {report.loss:.3f}, {report.media_per_s:.0f}/s {last}"
            show("train", report.step, report.steps, figures=figures)

        yield lambda stage, done, total: show(stage, done, total, figures=""), show_step


def _figures(validation: Validation) -> str:
    """Return the figures of a validation as text."""
    zero_shot = "" if validation.zero_shot is None else f", zero-shot {validation.zero_shot:.3f}"
    return f"R@1 {validation.recall_at_1:.3f}, R@10 {validation.recall_at_10:.3f}{zero_shot}"


def _print_result(result: BindResult) -> None:
    assert result.manifest is not None
    name = result.manifest.name
    print_line(f"{name} installed: {plural(result.pairs, 'pair')}, {plural(result.steps, 'step')}")
    if result.last is not None and result.before is not None:
        print_line(f"validation on {plural(result.validation_pairs, 'pair')}: {_figures(result.last)}")
        print_line(f"before training: {_figures(result.before)}")
    print_line(f"log: {result.log}")
    print_line(f"use it with: bindsearch index PATH --encoder {name}")


def _as_json(result: BindResult) -> dict[str, Any]:
    assert result.manifest is not None
    return {
        "name": result.manifest.name,
        "digest": result.manifest.source_sha256,
        **picked(result, "steps pairs validation_pairs"),
        "before_training": None if result.before is None else asdict(result.before),
        "validation": None if result.last is None else asdict(result.last),
        **picked(result, "best_score log notes"),
    }
