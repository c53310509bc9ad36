"""calibration.json: coefficients of match probabilities, of a store or shipped with an encoder."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bindsearch.atomic import atomic_write
from bindsearch.encoders import shipped_calibration
from bindsearch.errors import StoreError
from bindsearch.search.scoring.probability import DEFAULT_MODEL, ProbabilityModel
from bindsearch.small_files import check_seal, read_json_object, sealed
from bindsearch.storage.config import StoreConfig

CALIBRATION_FILE = "calibration.json"
FORMAT = 1
REMEDY = "run `bindsearch calibrate` again, or delete the file"


def write_calibration(path: Path, model: ProbabilityModel, config: StoreConfig, origin: Mapping[str, object]) -> None:
    """Write a model to a file atomically, with the encoder that it was fitted for, and what it was fitted from."""
    record = {
        "format": FORMAT,
        "encoder": config.encoder,
        "weights_digest": config.weights_digest,
        "origin": dict(origin),
        **model.to_record(),
    }
    with atomic_write(path) as file:
        file.write(sealed(record, indent=2) + b"\n")


def load_calibration(store: Path, config: StoreConfig) -> tuple[ProbabilityModel, str | None]:
    """Return the model for a store: its own, else the one shipped with its encoder, else DEFAULT_MODEL.

    Returns:
        The model, and why the store's own file is not used; None if it is used or if there is none.
    """
    path = store / CALIBRATION_FILE
    problem = None
    try:
        return read_calibration(path, config), None
    except FileNotFoundError:
        pass
    except StoreError as error:
        problem = f"{error}; probabilities are those of the encoder's own calibration"
    shipped = shipped_calibration(config.encoder)
    if shipped is None:
        return DEFAULT_MODEL, problem
    try:
        return read_calibration(shipped, config), problem
    except StoreError:  # the store was made with other weights of the encoder
        return DEFAULT_MODEL, problem


def read_calibration(path: Path, config: StoreConfig) -> ProbabilityModel:
    """Read a model.

    Raises:
        FileNotFoundError: there is no such file.
        StoreError: the file cannot be read, is damaged, or was fitted for another encoder.
    """
    try:
        data: Any = read_json_object(path)
        check_seal(data, required=True)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise FileNotFoundError(errno.ENOENT, "no calibration", str(path)) from None
        raise StoreError(f"{path} cannot be read ({error.strerror or error}): {REMEDY}") from error
    except ValueError as error:
        raise StoreError(f"{path} is damaged ({error}): {REMEDY}") from error
    if data.get("format") != FORMAT:
        raise StoreError(f"{path} has format {data.get('format')!r:.40}, this BindSearch reads {FORMAT}: {REMEDY}")
    if (data.get("encoder"), data.get("weights_digest")) != (config.encoder, config.weights_digest):
        raise StoreError(f"{path} was fitted for another encoder ({data.get('encoder')!r:.80}): {REMEDY}")
    try:
        return ProbabilityModel.from_record(data)
    except ValueError as error:
        raise StoreError(f"{path} is damaged ({error}): {REMEDY}") from error
