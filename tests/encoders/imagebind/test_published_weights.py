"""With the published weights at hand: the three-by-three softmaxes of ImageBind's README come out."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bindsearch.encoders.imagebind import ImageBindEncoder, preprocess_audio
from bindsearch.encoders.model_store.installed import is_installed, read_model
from bindsearch.encoders.torch_runtime.device import Runtime
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.media import DecodeHints, Passage
from bindsearch.types import Modality

MODEL = "imagebind-huge"
TEXTS = ("A dog.", "A car", "A bird")
TOLERANCE = 5e-3

# Rows: the first named modality. Published to these digits, in fp32.
VISION_TEXT = [
    [9.9761e-01, 2.3694e-03, 1.8612e-05],
    [3.3836e-05, 9.9994e-01, 2.4118e-05],
    [4.7997e-05, 1.3496e-02, 9.8646e-01],
]
VISION_AUDIO = [[0.8070, 0.1088, 0.0842], [0.1036, 0.7884, 0.1079], [0.0018, 0.0022, 0.9960]]


@pytest.fixture(scope="module")
def features(shared_data: Path) -> dict[str, NDArray[np.float32]]:
    """Temperature-scaled features (3, d) of the dog, the car and the bird, by modality."""
    import soundfile

    if not is_installed(MODEL):
        pytest.skip(f"the checkpoint is not here: bindsearch model pull {MODEL} --dtype fp32")
    manifest = read_model(MODEL)
    if manifest.dtype != "fp32":
        pytest.skip(f"{MODEL} is here in {manifest.dtype}: the published numbers are those of --dtype fp32")
    encoder = ImageBindEncoder(manifest, runtime=Runtime("cpu"))
    folder = shared_data / "imagebind_trio"
    with (folder / "labels.csv").open() as file:
        rows = {(row["modality"], row["text"]): folder / row["path"] for row in csv.DictReader(file)}
    pictures = [read_image(rows["image", text], DecodeHints(10_000, 1.0), DecodeOptions()) for text in TEXTS]
    sounds = [soundfile.read(rows["audio", text], dtype="float32", always_2d=True) for text in TEXTS]
    # The first channel, at the three views of the published sampler.
    views = [preprocess_audio(samples[:, 0], rate_hz)[0].numpy() for samples, rate_hz in sounds]
    return {
        "vision": encoder.features(Modality.IMAGE, [encoder.prepare(picture) for picture in pictures]),
        "text": encoder.features(Modality.TEXT, [encoder.prepare(Passage(text)) for text in TEXTS]),
        "audio": encoder.features(Modality.AUDIO, views),
    }


@pytest.mark.weights
@pytest.mark.parametrize(
    ("rows", "columns", "published"),
    [("vision", "text", VISION_TEXT), ("audio", "text", np.eye(3)), ("vision", "audio", VISION_AUDIO)],
)
def test_the_published_softmaxes(
    rows: str, columns: str, published: list[list[float]], features: dict[str, NDArray[np.float32]]
) -> None:
    logits = features[rows] @ features[columns].T
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(exponentials / exponentials.sum(axis=1, keepdims=True), published, atol=TOLERANCE)
