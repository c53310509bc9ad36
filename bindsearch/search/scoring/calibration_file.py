"""calibration.json: coefficients of match probabilities, of a store or shipped with an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bindsearch.atomic import atomic_write
from bindsearch.encoders import shipped_calibration
from bindsearch.errors import StoreError
from bindsearch.search.scoring.probability import DEFAULT_MODEL, ProbabilityModel
from bindsearch.small_files import check_seal, read_json, sealed
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
        if model := read_calibration(path, config):
            return model, None
    except StoreError as error:
        problem = f"{error}; probabilities are those of the encoder's own calibration"
    shipped = shipped_calibration(config.encoder)
    with suppress(StoreError):  # the store was made with other weights of the encoder
        if shipped is not None and (model := read_calibration(shipped, config)):
            return model, problem
    return DEFAULT_MODEL, problem


def read_calibration(path: Path, config: StoreConfig) -> ProbabilityModel | None:
    """Read a model; None if there is no such file.

    Raises:
        StoreError: the file cannot be read, is damaged, or was fitted for another encoder.
    """

    def checked(data: dict[str, Any]) -> ProbabilityModel:
        check_seal(data, required=True)
        if data.get("format") != FORMAT:
            raise StoreError(f"{path} has format {data.get('format')!r:.40}, this BindSearch reads {FORMAT}: {REMEDY}")
        if (data.get("encoder"), data.get("weights_digest")) != (config.encoder, config.weights_digest):
            raise StoreError(f"{path} was fitted for another encoder ({data.get('encoder')!r:.80}): {REMEDY}")
        return ProbabilityModel.from_record(data)

    return read_json(path, checked, REMEDY)
