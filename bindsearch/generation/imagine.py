"""Pictures of a query: its embedding is decoded, and the picture is recorded with what it was made from."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.arguments import shell_command, to_path
from bindsearch.atomic import atomic_write
from bindsearch.encoders.base import Encoder
from bindsearch.encoders.registry import load_part
from bindsearch.encoders.torch_runtime.device import Runtime, resolve_device, torch_dtype
from bindsearch.encoders.unclip.library import check_installed, load_pipeline
from bindsearch.environment import installation_faults
from bindsearch.errors import UsageError
from bindsearch.generation.decoder import (
    check_dim,
    check_space,
    count_tokens,
    draw_picture,
    picture_vectors,
    probe_pictures,
    probe_vectors,
    read_norm,
)
from bindsearch.generation.models import DecoderFiles, find_decoder, memory_notes
from bindsearch.generation.settings import GUIDANCE, PictureSettings
from bindsearch.operations.encode_query import encode_without_store
from bindsearch.operations.recording import png_info, read_record
from bindsearch.reports import OnRows, OnStage, ignore_rows, ignore_stage
from bindsearch.search.prepare import compose_query
from bindsearch.search.query import Query, Searchable, make_query, resolve_weights
from bindsearch.search.query_encoding import EncodedTerm
from bindsearch.store import Store
from bindsearch.types import Modality, PathLike

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

COMMAND = "imagine"


@dataclass(frozen=True, slots=True)
class ImaginedPicture:
    """A picture that was made from a query.

    Attributes:
        picture: The picture, RGB.
        record: What it was made from, as in its PNG file.
        path: Its file; None if none was asked for.
    """

    picture: Image
    record: Mapping[str, Any]
    path: Path | None


@installation_faults()
def imagine(
    query: Searchable | Query,
    *,
    store: Store | None = None,
    encoder: str | Encoder | None = None,
    model: PathLike | None = None,
    out: PathLike | None = None,
    settings: PictureSettings | None = None,
    imu_rate_hz: float | None = None,
    device: str = "auto",
    on_notice: OnStage = ignore_stage,
    on_steps: OnRows = ignore_rows,
) -> list[ImaginedPicture]:
    """Make pictures of a query of any modality.

    Its terms are composed as for a search (each normalised, weighted and added, ImageBind paper, B.4), and the sum is
    scaled to the norm of the embeddings that the decoder was trained with. The temperatures of the encoder's heads do
    not change it: a term is normalised before it is weighted, and the norm of the sum is replaced.

    Args:
        query: A text, a term, a composition, or a Query, whose targets and filter are not used.
        store: Store whose encoder and items are used; None: `encoder` is, and there are no items.
        encoder: Encoder, or its name, without a store.
        model: Decoder: "unclip:ORG/NAME", or a folder with a pipeline; None: the one that is installed.
        out: PNG file to write; of several pictures, the name that they are numbered after. None: no file.
        settings: Prompt, strength, steps, seed, size, count, number format; None: the defaults.
        imu_rate_hz: Sample rate in Hz of motion files that do not contain one.
        device: Device as in `connect`.
        on_notice: Called with licence, memory and what else is to be known, before the pictures are made.
        on_steps: Called with the number of steps that are done, and the total.

    Returns:
        The pictures, in the order of their seeds; each is written when it is complete.

    Raises:
        UsageError: an argument is invalid, `out` exists and is not a picture of this function, or the encoder is not
            in the space of the decoder.
        EncoderError: encoder or decoder are not installed or damaged, or memory is not sufficient.
        InstallationError: the extra [generate] is not installed.
    """
    chosen = PictureSettings() if settings is None else settings
    asked = query if isinstance(query, Query) else make_query(query)
    paths = _paths(out, chosen.count)
    for path in filter(None, paths):
        check_output(path)
    if (store is None) == (encoder is None):
        raise UsageError("the encoder of the query is not clear: give either a store or an encoder")
    if store is not None and not store.exists:
        raise UsageError("there is no store: name the encoder of the query, such as --encoder imagebind-huge")
    check_installed()
    decoder = find_decoder(model)
    if chosen.steps > decoder.shape.max_steps:
        raise UsageError(f"the number of steps is {chosen.steps}: the decoder has at most {decoder.shape.max_steps}")
    on_notice(f"licence of {decoder.name}: {decoder.license}")
    if store is not None:
        used = store.encoder
    else:
        assert encoder is not None
        used = load_part(encoder, None, Runtime(device)) if isinstance(encoder, str) else encoder
    check_dim(used, decoder.name, decoder.shape.dim)
    where = resolve_device(device)
    dtype = chosen.dtype or ("fp16" if where.type == "cuda" else "fp32")
    for notice in memory_notes(decoder, chosen.sides(decoder.shape.side_px), where, dtype):
        on_notice(notice)
    if store is not None:
        terms = store.encode_query(asked, imu_rate_hz=imu_rate_hz)
    else:
        terms = encode_without_store(asked.terms, used, imu_rate_hz)
    vector = compose_query(asked, terms).for_target(Modality.IMAGE).vector
    about = {"query": _recorded_terms(asked, terms), "encoder": used.name, "encoder_digest": used.digest}
    probes = None if chosen.any_space else probe_vectors(used, decoder.shape.input_px)
    for notice in dict.fromkeys(notice for term in terms for notice in term.notices):
        on_notice(notice)
    del used, terms  # one that was loaded here is not in memory beside the decoder
    gc.collect()
    return _draw(vector, about, probes, decoder, chosen, paths, where, dtype, on_notice, on_steps)


def check_output(path: Path) -> None:
    """Check that a picture can be written without replacing anything but one of an earlier run.

    Raises:
        UsageError: the name is not one of a PNG file, its folder is missing, or another file is there.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"--out {path}: expected a name that ends in .png")
    if not path.parent.is_dir():
        raise UsageError(f"--out {path}: the folder {path.parent} does not exist")
    if os.path.lexists(path) and (read_record(path) or {}).get("command") != COMMAND:
        raise UsageError(f"--out {path} exists and is not a picture of {shell_command(COMMAND)}: give another name")


def _paths(out: PathLike | None, count: int) -> list[Path | None]:
    """Return the file of each picture: NAME.png, or NAME-1.png and so on for several; None without files."""
    if out is None or count == 1:
        return [None if out is None else to_path(out)] * count
    path = to_path(out)
    return [path.with_name(f"{path.stem}-{number:0{len(str(count))}}{path.suffix}") for number in range(1, count + 1)]


def _recorded_terms(query: Query, terms: Sequence[EncodedTerm]) -> list[dict[str, Any]]:
    """Return the terms of a query for the record."""
    return [
        {
            "kind": str(given.kind or term.modality),
            "modality": term.modality.value,
            "source": given.source,
            "weight": weight,
            "span_s": None if given.span is None else [given.span.start_s, given.span.end_s],
            "caption": given.caption or None,
        }
        for given, term, weight in zip(query.terms, terms, resolve_weights(query.terms), strict=True)
    ]


def _draw(
    vector: NDArray[np.float32],
    about: Mapping[str, Any],
    probes: NDArray[np.float32] | None,
    decoder: DecoderFiles,
    settings: PictureSettings,
    paths: Sequence[Path | None],
    where: torch.device,
    dtype: str,
    on_notice: OnStage,
    on_steps: OnRows,
) -> list[ImaginedPicture]:
    """Load the decoder, compare the spaces, and make, record and write the pictures of a vector (d,)."""
    from bindsearch import __version__

    pipeline = load_pipeline(decoder.folder, torch_dtype(dtype), where)
    cosine = None
    if probes is None:
        on_notice("the space of the query was not compared with that of the decoder (--any-space)")
    else:
        of_decoder = picture_vectors(pipeline, probe_pictures(decoder.shape.input_px))
        cosine = check_space(about["encoder"], decoder.name, probes, of_decoder)
    norm, is_trained = read_norm(pipeline)
    if not is_trained:
        on_notice(
            f"the decoder states no statistics of its embeddings (mean 0, deviation 1): scaled to the norm {norm:.4g}"
        )
    tokens, most = count_tokens(pipeline, settings.prompt)
    if tokens > most:
        on_notice(f"the prompt has {tokens} tokens: only the first {most} are used")
    size = settings.sides(decoder.shape.side_px)
    noise_level = settings.noise_level(decoder.shape.noise_levels)
    record: dict[str, Any] = {
        "made_by": f"bindsearch {__version__}",
        "command": COMMAND,
        **about,
        "model": decoder.name,
        "model_digest": decoder.digest,
        "license": decoder.license,
        "prompt": settings.prompt,
        "strength": settings.strength,
        "noise_level": noise_level,
        "guidance": GUIDANCE,
        "steps": settings.steps,
        "norm": norm,
        "width": size[0],
        "height": size[1],
        "dtype": dtype,
        "device": where.type,
        "any_space": settings.any_space,
        "space_cosine": cosine,
    }
    made = []
    for number, (seed, path) in enumerate(zip(settings.seeds, paths, strict=True)):

        def on_step(done: int, before: int = number * settings.steps) -> None:
            on_steps(before + done, settings.count * settings.steps)

        scaled = vector * np.float32(norm)
        picture = draw_picture(
            pipeline, scaled, settings, seed=seed, size=size, noise_level=noise_level, on_step=on_step
        )
        created = datetime.now(UTC).isoformat(timespec="seconds")
        one = ImaginedPicture(picture, {**record, "seed": seed, "created": created}, None)
        made.append(one if path is None else _write(one, path))
    return made


def _write(made: ImaginedPicture, path: Path) -> ImaginedPicture:
    """Write a picture with its record; raise UsageError if another file was written there meanwhile, or none can be."""
    check_output(path)
    try:
        with atomic_write(path) as target:
            made.picture.save(target, "PNG", pnginfo=png_info(made.record))
    except (OSError, ValueError) as error:  # a record that is too long is a ValueError
        raise UsageError(f"--out {path} cannot be written: {getattr(error, 'strerror', None) or error}") from error
    return replace(made, path=path.absolute())
