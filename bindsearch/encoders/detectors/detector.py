"""Detector: an OWLv2 or OWL-ViT model of the transformers library, whose queries may be vectors of any medium.

Its class head compares the embedding of each patch of a picture with the embedding of a query, usually of a text. Any
vector of the same space can be put in its place; `shared_space` checks whether an encoder has that space.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.arguments import shown
from bindsearch.encoders.base import Encoder, encode_media, query_encoder
from bindsearch.encoders.detectors.snapshot import check_present
from bindsearch.encoders.hf.encoder import HfEncoder
from bindsearch.encoders.hf.owl import Adapter, embed_patches
from bindsearch.encoders.model_store.installed import ModelManifest, check_not_replaced, read_model, snapshot_folder
from bindsearch.encoders.model_store.source import DETECTOR_TYPES, is_detector
from bindsearch.encoders.torch_runtime.device import (
    DEFAULT_RUNTIME,
    Runtime,
    check_device,
    compute_dtype,
    resolve_device,
    run_in_batches,
    torch_dtype,
)
from bindsearch.encoders.torch_runtime.threads import all_threads
from bindsearch.errors import EncoderError, UsageError
from bindsearch.hashing import fingerprint_of
from bindsearch.media import MODALITY_OF, Media, Passage
from bindsearch.types import Modality

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

DETECTION_VERSION = 1
"""Version of the code of detectors; increased when code, not weights, changes boxes or scores."""


@dataclass(frozen=True, slots=True)
class Detections:
    """Boxes in a picture and how well they fit queries.

    Attributes:
        boxes: Left, top, right, bottom of n boxes in 0..1 of the picture: float32 (n, 4).
        scores: Score of each box for each of q queries in 0..1: float32 (n, q).
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]


class Detector:
    """Detector of an installed model; its network loads on first use, and one call at a time runs it."""

    def __init__(self, manifest: ModelManifest, *, runtime: Runtime = DEFAULT_RUNTIME) -> None:
        """Create the detector of an installed model.

        Args:
            manifest: Manifest of the model.
            runtime: Device that it runs on; networks are not compiled, and pictures are not batched.

        Raises:
            EncoderError: files of the model are missing or damaged.
            InstallationError: the library is not installed.
        """
        check_present()
        self._manifest, self._runtime = manifest, runtime
        self._adapter = Adapter(snapshot_folder(manifest), manifest.name, {})
        self._lock = threading.Lock()
        self._encoder = HfEncoder(manifest, runtime=runtime)

    @property
    def name(self) -> str:
        """Name of the model, such as "owlv2:google/owlv2-base-patch16-ensemble"."""
        return self._manifest.name

    @property
    def dim(self) -> int:
        """Dimension d of the space of queries."""
        return self._adapter.dim

    @property
    def digest(self) -> str:
        """Digest of the published files, which determine boxes and scores."""
        return fingerprint_of(str(DETECTION_VERSION), self._encoder.digest)

    @property
    def encoder(self) -> Encoder:
        """Encoder of the model's own texts, and of pictures as queries: that of `hf:` with the same files."""
        return self._encoder

    def text_embeddings(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed n texts by the detector's own text tower: float32 (n, d), unit L2 norm.

        Raises:
            UsageError: there are no texts.
            MediaError: a text is blank or too long.
        """
        return encode_media(self.encoder, [Passage(text) for text in texts])

    def detect(self, rgb: NDArray[np.uint8], queries: NDArray[np.float32]) -> Detections:
        """Return boxes of a picture and their scores; the picture is embedded once for all queries.

        There is a box for each patch. Those outside of the picture, of the padding of its input, are left out. Scores
        are sigmoids of the class head's logits, (cosine + shift) * scale with the shift and scale of each patch.

        Args:
            rgb: Picture, uint8 (height, width, 3).
            queries: Vectors of the detector's space, float32 (q, d), of any length but 0.

        Raises:
            UsageError: the picture or the queries have another shape or type, or a vector is 0 or not finite.
            MediaError: the picture has no pixels.
            EncoderError: the queries have another dimension, weights are damaged, or memory is not sufficient.
        """
        self._check(rgb, queries)
        import torch

        pixels = torch.from_numpy(self._adapter.pixels(rgb))[None]
        asked = torch.from_numpy(np.array(queries, np.float32))[None]

        def run(_start: int, _stop: int) -> torch.Tensor:
            """Return centre x, centre y, width, height and scores of each patch, float32 (patches, 4 + q)."""
            network = self._network
            features, feature_map = embed_patches(network, pixels.to(self._device))
            logits, _ = network.class_predictor(features, asked.to(self._device))
            return torch.cat([network.box_predictor(features, feature_map), logits.sigmoid()], dim=-1)[0]

        with self._lock, all_threads(), torch.inference_mode():
            (found,), _ = run_in_batches(run, 1, 1)
            numbers: NDArray[np.float32] = found.cpu().numpy()
        centre, half = numbers[:, :2], numbers[:, 2:4] / 2
        height, width = self._adapter.input_sides(*rgb.shape[:2])
        corners = np.concatenate([centre - half, centre + half], axis=1) * np.array([width, height] * 2, np.float32)
        corners = corners.clip(0.0, 1.0)
        inside = (corners[:, 2:] > corners[:, :2]).all(axis=1)
        return Detections(corners[inside], numbers[inside, 4:])

    @cached_property
    def _device(self) -> torch.device:
        return resolve_device(self._runtime.device)

    @cached_property
    def _network(self) -> Any:
        dtype = compute_dtype(torch_dtype(self._manifest.dtype), self._device)
        network = self._adapter.load_detection(self._device, dtype)
        check_not_replaced(self._manifest)
        return network

    def _check(self, rgb: NDArray[np.uint8], queries: NDArray[np.float32]) -> None:
        """Raise an error for a picture or queries that cannot be compared."""
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise UsageError(f"the picture is {rgb.dtype} {rgb.shape}: give uint8 (height, width, 3)")
        if queries.ndim != 2 or len(queries) == 0:
            raise UsageError(f"the queries have the shape {queries.shape}: give at least one vector, float32 (q, d)")
        if queries.shape[1] != self.dim:
            raise EncoderError(
                f"the queries have {queries.shape[1]} dimensions, the detector {self.name} has {self.dim}: "
                "embed them with an encoder of its space"
            )
        if not (np.isfinite(queries).all() and queries.any(axis=1).all()):
            raise UsageError("a query is 0 or not finite: give vectors as an encoder returns them")


def load_detector(
    name: str,
    *,
    runtime: Runtime = Runtime(),  # noqa: B008  (frozen)
) -> Detector:
    """Return a detector by name; its network loads on first use.

    Raises:
        EncoderError: the name is not that of a detector, the model is not installed, or its files are damaged.
        UsageError: this machine has no such device.
        InstallationError: the library is not installed; the message names the extra.
    """
    if not is_detector(name):
        forms = " or ".join(f"{prefix}ORG/NAME" for prefix in DETECTOR_TYPES)
        raise EncoderError(
            f"{shown(name)} is not a detector: give {forms}, as `bindsearch model list` lists them; install one with "
            "`bindsearch model pull owlv2:google/owlv2-base-patch16-ensemble`"
        )
    check_present()
    check_device(runtime.device)
    return Detector(read_model(name), runtime=runtime)


MIN_COSINE = 0.999
"""Least cosine of the vectors of a text by two towers that are the same: bf16 and fp32 differ by less than 0.001."""

PROBES = (
    "a dog",
    "a cat on a sofa",
    "a person riding a bicycle",
    "red car",
    "the sound of rain",
    "a train at a station",
    "birds in the sky",
    "a cup of coffee",
    "an old wooden door",
    "a photo of a street at night",
    "people playing football",
    "a plate with food",
    "keyboard and mouse",
    "green grass",
    "a ringing phone",
    "snow on a mountain",
    "a boat on a lake",
    "traffic light",
    "a child laughing",
    "nothing but a white wall",
)
"""Texts that the towers are compared by; each has at most 16 tokens."""


def embed_queries(detector: Detector, media: Sequence[Media], encoder: Encoder | None = None) -> NDArray[np.float32]:
    """Embed n media of one modality as queries of a detector: float32 (n, d), unit L2 norm.

    Texts and pictures are embedded by the detector itself, other media by an encoder that shares its space.

    Raises:
        UsageError: there are no media, or of several modalities, or they need an encoder.
        EncoderError: the encoder has another space, or no tower for the media.
        MediaError: a medium has no content to encode.
    """
    own = detector.encoder
    modalities = {MODALITY_OF.get(type(medium)) for medium in media}
    if None in modalities or modalities <= own.modalities:
        return encode_media(own, media)
    if encoder is None:
        raise lacks_encoder(detector, str(next(iter(modalities))))
    check_shared_space(detector, encoder)
    return encode_media(query_encoder(encoder, Modality.IMAGE), media)


def lacks_encoder(detector: Detector, modality: str) -> UsageError:
    """Return the error for a query that a detector cannot embed itself, where no encoder is given."""
    return UsageError(
        f"the detector {detector.name} embeds texts and pictures alone, not {modality}: {_way_out(detector)}"
    )


def check_shared_space(detector: Detector, encoder: Encoder) -> None:
    """Check that an encoder has the space of a detector: both embed PROBES alike.

    Raises:
        EncoderError: the encoder has no texts, or another dimension, or a cosine is below MIN_COSINE; the message has
            the lowest one.
    """
    if Modality.TEXT not in encoder.modalities:
        raise EncoderError(
            f"the encoder {encoder.name} has no texts to compare its space with that of the detector {detector.name}: "
            f"{_way_out(detector)}"
        )
    if encoder.dim != detector.dim:
        raise EncoderError(
            f"the encoder {encoder.name} has {encoder.dim} dimensions, the detector {detector.name} has "
            f"{detector.dim}, so that its vectors are no queries of it: {_way_out(detector)}"
        )
    vectors = encode_media(query_encoder(encoder, Modality.IMAGE), [Passage(text) for text in PROBES])
    cosines = (vectors * detector.text_embeddings(PROBES)).sum(axis=1)
    lowest = int(np.argmin(cosines))
    if not cosines[lowest] >= MIN_COSINE:
        raise EncoderError(
            f"the encoder {encoder.name} has another space than the detector {detector.name}: their vectors of "
            f'"{PROBES[lowest]}" have the cosine {cosines[lowest]:.3f}, at least {MIN_COSINE} is needed: '
            f"{_way_out(detector)}"
        )


def _way_out(detector: Detector) -> str:
    """Return how media other than texts become queries of a detector."""
    own = f"hf:{detector.name.partition(':')[2]}"
    return f"search with texts or pictures, or with an encoder that was bound to {own} (`bindsearch bind --hub {own}`)"
