"""`bindsearch model`: download, list and delete models whose weights are not part of BindSearch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bindsearch.cli.aliases import Command
from bindsearch.cli.options import JsonOption, argument, option
from bindsearch.cli.output import human_bytes, plural, print_json, print_line, print_message, print_notices
from bindsearch.cli.progress import show_steps
from bindsearch.errors import EncoderError, UsageError

if TYPE_CHECKING:
    from bindsearch.encoders.model_store.installed import ModelManifest
    from bindsearch.encoders.model_store.source import ModelSource

STEPS = {"download": "downloading", "read": "reading", "convert": "converting"}

model_app = typer.Typer(
    name="model",
    help="Download, list and delete models. Example: bindsearch model pull imagebind-huge",
    no_args_is_help=True,
)
NameArgument = Annotated[
    str,
    argument(
        "NAME",
        "imagebind-huge, openclip:MODEL/PRETRAINED, timm:MODEL, st:ORG/NAME, hf:ORG/NAME, owlv2:ORG/NAME, "
        "or unclip:ORG/NAME.",
        show_default=False,
    ),
]


@model_app.command("pull", cls=Command)
def pull_command(
    name: NameArgument,
    from_: Annotated[
        Path | None,
        option(
            "--from PATH",
            "Use this checkpoint, or the one in this folder, or of st:, hf:, owlv2: and unclip: this folder; "
            "no download.",
        ),
    ] = None,
    url: Annotated[
        str | None,
        option("--url URL", "Download from this URL (a mirror); of st:, hf:, owlv2: and unclip: the address of a hub."),
    ] = None,
    revision: Annotated[
        str | None, option("--revision REV", "Branch, tag or commit of the repository of st:, hf:, owlv2: and unclip:.")
    ] = None,
    dtype: Annotated[
        str | None, option("--dtype FORMAT", "fp16, bf16 or fp32; default: the fastest on this machine.")
    ] = None,
    accept_license: Annotated[bool, option("--accept-license", "Accept the model's licence without a prompt.")] = False,
    offline: Annotated[bool, option("--offline", "Do not use the network (same as $BINDSEARCH_OFFLINE=1).")] = False,
    force: Annotated[bool, option("--force", "Download again, even if installed.")] = False,
    json: JsonOption = False,
) -> None:
    """Download and convert a model, or convert a checkpoint file. Interrupted downloads are resumed.

    Example: bindsearch model pull imagebind-huge
    Without a network: bindsearch model pull imagebind-huge --from imagebind_huge.pth
    """
    from bindsearch.encoders.model_catalog import find_model_source
    from bindsearch.encoders.model_store.installed import model_folder
    from bindsearch.encoders.model_store.pull import pull_model
    from bindsearch.encoders.model_store.snapshot_pull import pull_snapshot
    from bindsearch.encoders.model_store.source import SNAPSHOT_FAMILIES, snapshot_family
    from bindsearch.encoders.registry import other_use

    def consent(source: ModelSource) -> bool:
        if accept_license or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return accept_license  # where there is nobody to ask, the refusal names the option
        if not typer.confirm(f"Do you accept the licence {source.license}?", default=False, err=True):
            raise UsageError(f"the licence {source.license} was not accepted: nothing was downloaded")
        return True

    def shown_consent(source: ModelSource) -> bool:
        print_message(source.license_text)
        return consent(source)

    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    shared: dict[str, Any] = {"url": url, "dtype": dtype, "offline": offline, "force": force}
    with show_steps(STEPS, TextColumn("{task.description:11}"), *columns) as show:
        shared["on_progress"] = lambda progress: show(progress.step, progress.done, progress.total)
        if snapshot_family(name) is None:
            if revision is not None:
                raise UsageError(f"--revision {revision}: only models of {', '.join(SNAPSHOT_FAMILIES)} have revisions")
            source = find_model_source(name)
            pulled = pull_model(source, from_file=from_, consent=shown_consent, **shared)
        else:
            pulled = pull_snapshot(
                name,
                revision=revision,
                from_folder=from_,
                show=lambda source: print_message(source.license_text),
                consent=consent,
                **shared,
            )
    print_notices(pulled.notices)
    if json:
        print_json({"pulled": pulled.is_new, **_model_json(pulled.manifest), "notices": list(pulled.notices)})
    elif pulled.is_new:
        model = pulled.manifest
        use = other_use(model.name) or f"bindsearch index PATH --encoder {model.name}"
        print_line(f"{model.name} installed: {model.dtype}, {human_bytes(_size(model))} in {model_folder(name)}")
        print_line(f"licence: {model.license}; use it with: {use}")


@model_app.command("list", cls=Command)
def list_command(json: JsonOption = False) -> None:
    """List the installed models.

    Example: bindsearch model list
    """
    from bindsearch.encoders.model_store.installed import (
        BOUND_PREFIX,
        damaged_models,
        list_models,
        models_folder,
        towers_of,
        unfinished_pulls,
    )

    models, faults, unfinished = list_models(), damaged_models(), unfinished_pulls()
    for fault in faults:
        print_message(f"damaged: {fault}")
    for name, size in unfinished.items():
        it = "it and the model" if any(model.name == name for model in models) else "it"
        command = "bind" if name.startswith(BOUND_PREFIX) else "model pull"
        print_message(
            f"unfinished: {name} ({human_bytes(size)}): run the same `bindsearch {command}` to resume, "
            f"or `bindsearch model remove {name}` to delete {it}"
        )
    if json:
        print_json({"models": [_model_json(model) for model in models], "damaged": faults, "unfinished": unfinished})
        return
    for model in models:
        contents = ", ".join(towers_of(model)) or plural(len(model.files), "file")
        print_line(f"{model.name}  {model.dtype}, {human_bytes(_size(model))}, {contents}")
    if not models:
        print_message(
            f"no downloaded models in {models_folder()} (mini is built in): run `bindsearch model pull imagebind-huge`"
        )


@model_app.command("info", cls=Command)
def info_command(
    name: NameArgument,
    check: Annotated[bool, option("--check", "Read all files and compare checksums.")] = False,
    json: JsonOption = False,
) -> None:
    """Show details of an installed model, or of the built-in one (mini), and check its files.

    Example: bindsearch model info imagebind-huge --check
    """
    from bindsearch.encoders.model_store.installed import BOUND_PREFIX, how_to_repair, read_model, verify_model

    if name == "mini":
        _print_built_in(as_json=json)
        return
    manifest = read_model(name)
    faults = verify_model(name, digests=check)
    if json:
        print_json({**_model_json(manifest), "checked": check, "faults": faults})
    else:
        _print_info(manifest, "damaged" if faults else "checksums match" if check else "sizes match")
    for fault in faults:
        print_message(f"damaged: {fault}")
    if faults:
        remedy = how_to_repair(name) if name.startswith(BOUND_PREFIX) else f"run `bindsearch model pull {name} --force`"
        raise EncoderError(f"the model {name} is damaged ({plural(len(faults), 'file')}): {remedy}")


@model_app.command("remove", cls=Command)
def remove_command(name: NameArgument, json: JsonOption = False) -> None:
    """Delete an installed model, or the files of an unfinished download.

    Example: bindsearch model remove imagebind-huge
    """
    from bindsearch.encoders.model_store.installed import remove_model

    freed = remove_model(name)
    if json:
        print_json({"name": name, "freed_bytes": freed})
    else:
        print_line(f"removed {name}, freed {human_bytes(freed)}")


def _print_info(model: ModelManifest, state: str) -> None:
    from bindsearch.encoders.model_store.installed import towers_of

    facts = _model_json(model)
    print_line(f"name          {model.name}  (family {model.family})")
    print_line(f"folder        {facts['folder']}  ({human_bytes(_size(model))}, {model.dtype}, {state})")
    print_line(f"licence       {model.license}")
    print_line(f"source        {model.source}  ({human_bytes(model.source_bytes)})")
    rows = [("revision", model.revision)] if model.revision else []
    rows += [("sha256", model.source_sha256), ("created", model.created)]
    rows += [("architecture", f"{key} = {value}") for key, value in model.architecture.items()]
    rows += [("temperature", f"{modality} = {value:g}") for modality, value in model.temperatures.items()]
    for label, text in rows:
        print_line(f"{label:12}  {text}")
    towers = towers_of(model)
    for key, file in model.files.items():
        kind = "tower" if key in towers else "file"
        print_line(f"{kind:<12}  {key}  {human_bytes(file.size_bytes)}, xxh3 {file.xxh3}")


def _print_built_in(*, as_json: bool) -> None:
    """Print the details of `mini`; its weights are parts of installed packages, and its digest is of their content."""
    from bindsearch.encoders.mini import MiniEncoder
    from bindsearch.encoders.mini.weights import LICENSE, weight_files
    from bindsearch.types import Modality

    encoder, files = MiniEncoder(), weight_files()
    size = sum(file.stat().st_size for file in files)
    modalities = [modality.value for modality in Modality if modality in encoder.modalities]
    if as_json:
        facts = {"name": encoder.name, "digest": encoder.digest, "dim": encoder.dim, "modalities": modalities}
        print_json({**facts, "size_bytes": size, "license": LICENSE, "files": [str(file) for file in files]})
        return
    print_line(f"name          {encoder.name}  (built in, {human_bytes(size)})")
    print_line(f"digest        {encoder.digest}")
    print_line(f"dimensions    {encoder.dim}")
    print_line(f"modalities    {', '.join(modalities)}")
    print_line(f"licence       {LICENSE}")
    for file in files:
        print_line(f"file          {file}  ({human_bytes(file.stat().st_size)})")


def _model_json(model: ModelManifest) -> dict[str, Any]:
    from dataclasses import asdict

    from bindsearch.encoders.model_store.installed import model_folder

    facts = asdict(model)
    del facts["format"]
    return {**facts, "folder": str(model_folder(model.name)), "size_bytes": _size(model)}


def _size(model: ModelManifest) -> int:
    return sum(file.size_bytes for file in model.files.values())
