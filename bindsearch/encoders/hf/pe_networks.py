"""Towers of PE-AV: how PeAudioVideoModel is called for each of them.

Its methods get_text_audio_embeds, get_text_video_embeds and get_video_embeds call what their models lack (transformers
5.24), and its forward needs two inputs; so the modules are called as its forward calls them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bindsearch.encoders.torch_runtime.picture_tower import Call


def towers(
    mean: Sequence[float], std: Sequence[float], side: tuple[int, int], hop: int, *, packed: bool
) -> Mapping[str, Call]:
    """Return the calls of all towers by name.

    Args:
        mean: Mean of each colour in 0..1.
        std: Standard deviation of each colour in 0..1.
        side: Height and width of frames in pixels.
        hop: Samples of a hop.
        packed: Videos are packed with their sound, as by `pe_audio_video.Adapter`.
    """
    frame_bytes = 3 * side[0] * side[1]

    def pixels(batch: Tensor, head: Any) -> Tensor:
        """Return normalised pixels (n, frames, 3, height, width) in the number format of a head."""
        frames = batch[..., :frame_bytes].reshape(*batch.shape[:2], 3, *side) if packed else batch
        means, stds = (torch.tensor(values, device=frames.device)[:, None, None] for values in (mean, std))
        return frames.float().div_(255).sub_(means).div_(stds).to(head.proj.weight.dtype)

    def embed_sound(model: Any, batch: Tensor) -> Tensor:
        embeds: Tensor = model.audio_model.audio_head(model.audio_model.audio_encoder(batch).pooler_output)
        return embeds

    def embed_video(model: Any, batch: Tensor) -> Tensor:
        head = model.video_model.video_head
        embeds: Tensor = head(model.video_model.video_encoder(pixels(batch, head)).pooler_output)
        return embeds

    def embed_both(model: Any, batch: Tensor) -> Tensor:
        raw, head = batch[..., frame_bytes:].reshape(len(batch), -1), model.audio_video_head
        whole = raw.shape[1] // (4 * hop) * 4 * hop
        sound = raw[:, :whole].contiguous().view(torch.float32)[:, None]  # (n, 1, samples)
        found = model.audio_video_encoder(input_values=sound, pixel_values_videos=pixels(batch, head))
        embeds: Tensor = head(found.pooler_output)
        return embeds

    return {
        "audio": embed_sound,
        "video": embed_video,
        "audio_video": embed_both,
        "text_for_audio": lambda model, tokens: _embed_texts(model, model.audio_model.text_audio_head, tokens),
        "text_for_video": lambda model, tokens: _embed_texts(model, model.video_model.text_video_head, tokens),
        "text_for_audio_video": lambda model, tokens: _embed_texts(model, model.text_audio_video_head, tokens),
    }


def keep_waveforms_exact(model: Any) -> None:
    """Let the first layers of sounds compute in fp32: bf16 has 8 bits for a sample of 16.

    With the small random model of the tests, its matrices tripled, the least cosine of vectors in bf16 and fp32 rises
    from .9967 to .9984.
    """
    dtype = model.audio_model.audio_head.proj.weight.dtype
    if dtype is torch.float32:
        return
    for encoder in (model.audio_model.audio_encoder, model.audio_video_encoder.embedder.audio_encoder):
        encoder.embedder.float()
        encoder.embedder.register_forward_hook(lambda _module, _given, found: (found[0].to(dtype), found[1]))


def _embed_texts(model: Any, head: Any, tokens: Tensor) -> Tensor:
    """Return the vectors of token ids and masks, int64 (n, 2, length), by a head."""
    found = model.text_model(input_ids=tokens[:, 0], attention_mask=tokens[:, 1], output_hidden_states=True)
    embeds: Tensor = head(found.hidden_states[-1][:, 0])
    return embeds
