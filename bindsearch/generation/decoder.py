"""Decoder of embeddings: an unCLIP pipeline whose picture embedding is replaced by that of a query.

The decoder was trained with embeddings of pictures that are not normalised, while vectors here are of unit length, so
that a vector is first scaled to the norm of those embeddings. Vectors of an encoder have to be in the space that the
decoder was trained with: both give probe pictures nearly the same vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.base import Encoder, encode_media
from bindsearch.encoders.torch_runtime.device import is_out_of_memory
from bindsearch.encoders.unclip.library import silenced
from bindsearch.errors import EncoderError, UsageError
from bindsearch.generation.settings import GUIDANCE, PictureSettings
from bindsearch.media import Picture
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

if TYPE_CHECKING:
    from diffusers import StableUnCLIPImg2ImgPipeline
    from numpy.typing import NDArray
    from PIL.Image import Image


MIN_COSINE = 0.98
"""Least cosine of the vectors that two copies of an encoder give the same picture: number formats and interpolations
change them by less than 0.01, other spaces have cosines near 0."""

ANY_SPACE = "--any-space makes a picture nevertheless"


def trained_norm(mean: NDArray[np.floating[Any]], deviation: NDArray[np.floating[Any]]) -> float:
    """Return the root mean square of the norms of the embeddings that a decoder was trained with.

    The pipeline has their mean m and standard deviation s in each dimension, so that E|x|^2 = |m|^2 + |s|^2 for any
    distribution with these.

    Args:
        mean: Mean in each dimension: (d,).
        deviation: Standard deviation in each dimension: (d,).
    """
    return float(np.sqrt(np.sum(np.square(mean, dtype=np.float64)) + np.sum(np.square(deviation, dtype=np.float64))))


def read_norm(pipeline: StableUnCLIPImg2ImgPipeline) -> tuple[float, bool]:
    """Return the norm to scale vectors to, and whether the pipeline has statistics of a training.

    Raises:
        EncoderError: the statistics are not finite, or a deviation is not above 0.
    """
    normalizer = pipeline.image_normalizer
    mean, deviation = (one.detach().float().cpu().numpy().ravel() for one in (normalizer.mean, normalizer.std))
    if not (np.isfinite(mean).all() and np.isfinite(deviation).all() and (deviation > 0).all()):
        raise EncoderError("the image_normalizer of the decoder holds values that are not finite, or a deviation of 0")
    is_trained = bool((mean != 0).any() or (deviation != 1).any())
    return trained_norm(mean, deviation), is_trained


def picture_vectors(
    pipeline: StableUnCLIPImg2ImgPipeline, pictures: Sequence[NDArray[np.uint8]]
) -> NDArray[np.float32]:
    """Embed pictures with the decoder's own picture encoder.

    Args:
        pipeline: The pipeline.
        pictures: RGB pictures: uint8 (height, width, 3) each.

    Returns:
        Vectors of unit length: float32 (n, d).
    """
    import torch
    from PIL import Image

    encoder: Any = pipeline.image_encoder
    extract: Any = pipeline.feature_extractor
    pixels = extract(images=[Image.fromarray(picture) for picture in pictures], return_tensors="pt").pixel_values
    first = next(encoder.parameters())
    with torch.inference_mode():
        embeddings = encoder(pixels.to(first.device, first.dtype)).image_embeds
    return l2_normalize(embeddings.float().cpu().numpy())


def count_tokens(pipeline: StableUnCLIPImg2ImgPipeline, prompt: str) -> tuple[int, int]:
    """Return the number of tokens of a prompt, and how many the decoder takes."""
    tokenizer: Any = pipeline.tokenizer
    with silenced():
        return len(tokenizer(prompt).input_ids), int(tokenizer.model_max_length)


def draw_picture(
    pipeline: StableUnCLIPImg2ImgPipeline,
    embedding: NDArray[np.float32],
    settings: PictureSettings,
    *,
    seed: int,
    size: tuple[int, int],
    noise_level: int,
    on_step: Callable[[int], None],
) -> Image:
    """Make a picture of an embedding.

    All noise is drawn on the CPU, so that a seed gives the same noise on every device.

    Args:
        pipeline: The pipeline.
        embedding: Embedding of the norm that the decoder was trained with: float32 (d,).
        settings: Prompt, steps.
        seed: Seed of the noise.
        size: Width and height in pixels.
        noise_level: Level of the noise that is added to the embedding.
        on_step: Called with the number of steps that are done.

    Raises:
        EncoderError: memory is not sufficient, or the picture holds values that are not finite.
    """
    import torch

    first: Any = next(pipeline.unet.parameters())
    scaled = torch.from_numpy(embedding)[None].to(first.device, first.dtype)

    def on_callback(step: int, _timestep: object, _latents: object) -> None:
        on_step(min(step + 1, settings.steps))

    with silenced():
        try:
            pixels: NDArray[np.float32] = pipeline(
                image_embeds=scaled,
                prompt=settings.prompt,
                width=size[0],
                height=size[1],
                num_inference_steps=settings.steps,
                guidance_scale=GUIDANCE,
                noise_level=noise_level,
                generator=torch.Generator("cpu").manual_seed(seed),
                output_type="np",
                callback=on_callback,
                callback_steps=1,
            ).images[0]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise EncoderError(
                f"memory is not sufficient for a picture of {size[0]} x {size[1]} pixels: give a smaller --size or "
                "--dtype fp16"
            ) from error
    on_step(settings.steps)
    if not np.isfinite(pixels).all():
        format_name = str(first.dtype).removeprefix("torch.")
        raise EncoderError(f"the picture holds values that are not finite in {format_name}: use --dtype fp32")
    from PIL import Image

    return Image.fromarray((pixels * 255).round().astype(np.uint8))


def probe_pictures(side_px: int) -> list[NDArray[np.uint8]]:
    """Return three pictures of the size of the input, which is thus not resized: uint8 (side, side, 3) each.

    A gradient of colours, rings, and smooth noise.
    """
    y, x = np.mgrid[0:side_px, 0:side_px] / max(1, side_px - 1)
    gradient = np.stack([x, y, 1 - x], axis=-1)
    rings = 0.5 + 0.5 * np.cos(20 * np.hypot(x - 0.5, y - 0.4))[..., None] * np.array([1.0, -0.5, 0.2])
    coarse = np.random.default_rng(0).random((8, 8, 3))
    noise = np.kron(coarse, np.ones((-(-side_px // 8), -(-side_px // 8), 1)))[:side_px, :side_px]
    return [(255 * picture).round().astype(np.uint8) for picture in (gradient, rings, noise)]


def probe_vectors(encoder: Encoder, side_px: int) -> NDArray[np.float32]:
    """Return the vectors that an encoder gives the probe pictures: float32 (3, d), unit length.

    Raises:
        UsageError: the encoder embeds no pictures.
    """
    if Modality.IMAGE not in encoder.modalities:
        raise UsageError(
            f"the encoder {encoder.name} embeds no pictures, so that its space cannot be compared with the decoder's: "
            f"use another encoder; {ANY_SPACE}"
        )
    return encode_media(encoder, [Picture(picture) for picture in probe_pictures(side_px)])


def check_dim(encoder: Encoder, model: str, dim: int) -> None:
    """Check that vectors of an encoder have the dimensions that a decoder takes.

    Raises:
        UsageError: they have others.
    """
    if encoder.dim != dim:
        raise UsageError(
            f"the encoder {encoder.name} has {encoder.dim} dimensions, the decoder {model} takes {dim}: "
            "use an encoder bound to the picture encoder of the decoder"
        )


def check_space(name: str, model: str, of_encoder: NDArray[np.float32], of_decoder: NDArray[np.float32]) -> float:
    """Check that an encoder and the picture encoder of a decoder give the probe pictures the same vectors.

    Args:
        name: Name of the encoder.
        model: Name of the decoder.
        of_encoder: Vectors of the encoder: float32 (n, d), unit length.
        of_decoder: Vectors of the decoder's picture encoder: float32 (n, d), unit length.

    Returns:
        The least cosine of the two vectors of a picture.

    Raises:
        UsageError: it is below MIN_COSINE.
    """
    least = float(np.sum(of_encoder * of_decoder, axis=1, dtype=np.float64).min())
    if not least >= MIN_COSINE:
        raise UsageError(
            f"the encoder {name} is not in the space of the decoder {model}: of test pictures their vectors have the "
            f"cosine {least:.3f}, not {MIN_COSINE} or more; {ANY_SPACE}"
        )
    return least
