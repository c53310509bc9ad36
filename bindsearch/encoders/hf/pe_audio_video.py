"""PE-AV: video, sounds, videos with their sound, and texts, by PeAudioVideoModel of the transformers library.

The model has a head for each pair that it was trained on: a text that searches sounds is embedded by another head than
one that searches videos. So queries are embedded by target, and texts that are indexed, as those that search
several modalities, by the head for videos with their sound. With the option `joint=sound`, a video is embedded with its
sound as one input; a silent video then has a sound of zeros, as long as its frames last.

The library compares vectors by their product, which depends on their lengths too; here cosines are compared. The logit
scales are those of the model times the lengths that its heads give vectors on average (see `_mean_length`).

Frames are resized by the video processor of the model, without keeping their aspect ratio. A model that takes a fixed
number of frames gets them at even distances, as the library chooses them; others get FRAMES_PER_S.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.arguments import shown
from bindsearch.encoders.hf.adapter import (
    CONFIG_FILE,
    PREPROCESSOR_FILE,
    PROCESSOR_FILE,
    HubTokenizer,
    ModelAdapter,
    Options,
)
from bindsearch.encoders.hf.library import from_folder, library_errors, load_network, read_tensors
from bindsearch.encoders.model_store.snapshot_files import read_json
from bindsearch.encoders.preprocessing.resampling import at_rate, windows
from bindsearch.errors import EncoderError, MediaError, UsageError
from bindsearch.media import DecodeHints, Frames, Media, Passage, Sound
from bindsearch.types import Modality

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

VIDEO_PROCESSOR_FILE = "video_preprocessor_config.json"
JOINT_OPTION = "joint"
NONE, SOUND = "none", "sound"
"""Values of the option `joint`."""

FRAMES_PER_S = 2.0
"""Rate of the frames that are decoded; a default segment of 10 s has 20."""

MAX_FRAMES = 128
"""Most frames of a segment; of a longer one, as many at even distances."""

WINDOW_S = 30.0
"""Longest sound that is embedded whole; a longer one is covered by windows, whose vectors are averaged."""

MAX_TOKENS = 512
"""Longest passage: the model was trained on captions, its text tower alone takes more."""

MAX_BATCH = 8
"""Most videos or sounds in a batch: the first layers of the sound tower take 120 MB for 10 s."""

_DIM = 1024
_HEADS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        f"text_for_{pair}": (f"{path}text_{pair}_logit_scale", f"{path}{pair}_head", f"{path}text_{pair}_head")
        for pair, path in (("audio", "audio_model."), ("video", "video_model."), ("audio_video", ""))
    }
)
"""Logit scale, head of what is searched, and head of texts, by the tower of texts."""


class Adapter(ModelAdapter):
    """Adapter of PeAudioVideoModel; see `bindsearch.encoders.hf.adapter.ModelAdapter`."""

    modalities = frozenset({Modality.TEXT, Modality.AUDIO, Modality.VIDEO})
    settable = (JOINT_OPTION,)
    libraries: Mapping[Modality, tuple[str, ...]] = MappingProxyType(
        {
            **dict.fromkeys(modalities, ("torch", "torchvision", "torchaudio", "timm", "transformers")),
            Modality.TEXT: ("torch", "torchvision", "timm", "transformers"),
        }
    )

    def __init__(self, folder: Path, name: str, options: Options) -> None:
        """Read the configuration in the folder of a model."""
        self._folder = folder
        self._name = name
        given = str(options.get(JOINT_OPTION, NONE))
        if given not in (NONE, SOUND):
            raise UsageError(f"{JOINT_OPTION} is {shown(given)}: choose {NONE}, or {SOUND} to embed videos with theirs")
        self._joint = given == SOUND
        config = read_json(folder / CONFIG_FILE)
        try:
            text = config.get("text_config") or {}
            self.dim = int(text.get("hidden_size", _DIM))
            positions = int(text.get("max_position_embeddings", MAX_TOKENS))
            facts = _processor_facts(folder)
            self._rate_hz, self._hop = int(facts["sampling_rate"]), int(facts["hop_length"])
            self._side = (int(facts["size"]["height"]), int(facts["size"]["width"]))
            self._frames = int(facts["num_frames"] or 0)
            self._mean, self._std = ([float(value) for value in facts[key]] for key in ("image_mean", "image_std"))
            if not (8_000 <= self._rate_hz <= 192_000 and 0 < self._hop <= self._rate_hz):
                raise ValueError(f"a sampling rate of {self._rate_hz} and a hop of {self._hop}")
            if not (all(0 < side <= 2_048 for side in self._side) and 0 <= self._frames <= MAX_FRAMES):
                raise ValueError(f"{self._frames} frames of {self._side[0]} x {self._side[1]} pixels")
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise EncoderError(f"the configuration of {name} is damaged ({error}): pull the model again") from error
        self.tokenizer = HubTokenizer(folder, min(positions, MAX_TOKENS))
        self._loaded: nn.Module | None = None
        self.options = {
            JOINT_OPTION: given,
            "sample_rate_hz": self._rate_hz,
            "frames_per_s": FRAMES_PER_S,
            "frames": self._frames,
            "height_px": self._side[0],
            "width_px": self._side[1],
        }
        joint = frozenset({Modality.AUDIO}) if self._joint else frozenset[Modality]()
        self.wants = DecodeHints(picture_side_px=max(self._side), frames_per_s=FRAMES_PER_S, joint=joint)

    def prepare(self, media: Media) -> NDArray[Any]:
        """Return token ids, int64 (1, length); sounds, float32 (windows, 1, samples); or frames of a video.

        Frames are uint8 (1, frames, 3, height, width); with `joint=sound` packed with the sound, see `_pack`.

        Raises:
            MediaError: the text is blank or too long, the sound has no samples, or the video no frames.
        """
        match media:
            case Passage(text=text):
                return self.tokenizer.tokenize(text)
            case Sound(samples=samples, sample_rate_hz=rate_hz):
                sound = at_rate(samples, rate_hz, self._rate_hz)
                length = int(WINDOW_S * self._rate_hz)
                return np.stack([self._whole_hops(part)[None] for part in windows(sound, length)])
            case Frames(rgb=rgb, times_s=times_s, sound=with_sound):
                frames = self._resized(rgb)
                if not self._joint:
                    return frames[None]
                if with_sound is None:
                    length = round((float(times_s[-1] - times_s[0]) + 1 / FRAMES_PER_S) * self._rate_hz)
                    heard = np.zeros(length, np.float32)
                else:
                    heard = at_rate(with_sound.samples, with_sound.sample_rate_hz, self._rate_hz)
                return self._pack(frames, self._whole_hops(heard))[None]
        raise TypeError(f"{type(media).__name__} is neither a passage, a sound nor frames")

    def temperatures(self, target: Modality | None) -> Mapping[Modality, float]:
        """Return the logit scales of cosines of texts with sounds and with videos; of texts that for `target`."""
        scales = {tower: self._scale(*names) for tower, names in _HEADS.items()}
        video = scales["text_for_audio_video" if self._joint else "text_for_video"]
        text = scales["text_for_audio"] if target is Modality.AUDIO else video
        return {Modality.TEXT: text, Modality.AUDIO: scales["text_for_audio"], Modality.VIDEO: video}

    def tower_of(self, modality: Modality, target: Modality | None) -> str:
        """Return the tower with the head for a target.

        Videos with their sound that search sounds are embedded by their frames alone: no head compares both.
        """
        match modality:
            case Modality.TEXT:
                if target is Modality.AUDIO:
                    return "text_for_audio"
                return "text_for_video" if target is Modality.VIDEO and not self._joint else "text_for_audio_video"
            case Modality.VIDEO if self._joint and target is not Modality.AUDIO:
                return "audio_video"
        return modality.value

    def most_views(self, tower: str) -> int | None:
        """Return the most views in a batch of a tower; None: no limit."""
        return None if tower in _HEADS else MAX_BATCH

    def load(self, tower: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Return a tower; the model is loaded once, since its towers share networks."""
        from bindsearch.encoders.hf import pe_networks
        from bindsearch.encoders.torch_runtime.picture_tower import Tower

        if self._loaded is None:
            with library_errors(self._folder):
                from transformers import PeAudioVideoModel
            self._loaded = load_network(PeAudioVideoModel, self._folder, device, dtype)
            pe_networks.keep_waveforms_exact(self._loaded)
        calls = pe_networks.towers(self._mean, self._std, self._side, self._hop, packed=self._joint)
        return Tower(self._loaded, calls[tower])

    @cached_property
    def _extractor(self) -> Any:
        return from_folder(self._folder, "PeAudioFeatureExtractor")

    @cached_property
    def _video_processor(self) -> Any:
        return from_folder(self._folder, "PeVideoVideoProcessor")

    def _whole_hops(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a sound, float32 (n,), reflected at its end to a whole number of hops."""
        values = self._extractor([sound], sampling_rate=self._rate_hz, return_tensors="np")["input_values"]
        return np.asarray(values[0, 0], np.float32)

    def _resized(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the frames that the model takes, resized: uint8 (frames, 3, height, width)."""
        if 0 in rgb.shape:
            raise MediaError(f"the video has no frames with pixels (shape {rgb.shape})")
        count = self._frames or min(len(rgb), MAX_FRAMES)
        chosen = [int(n * (len(rgb) - 1) / max(1, count - 1)) for n in range(count)]  # as PeVideoVideoProcessor
        only_resized = {"do_sample_frames": False, "do_rescale": False, "do_normalize": False}
        found = self._video_processor([rgb[chosen]], input_data_format="channels_last", **only_resized)
        pixels = found["pixel_values_videos"][0]
        if tuple(pixels.shape[2:]) != self._side:
            raise EncoderError(f"the video processor of {self._name} does not resize frames: pull the model again")
        return np.asarray(pixels.numpy(), np.uint8)

    def _pack(self, frames: NDArray[np.uint8], sound: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return frames and sound as one array, whose shape tells both: a row a frame, uint8 (frames, bytes).

        A row is a frame and a share of the bytes of the sound, which are filled up with zeros. The share is
        ceil(bytes of a hop * hops / frames), from which the number of hops follows: a hop has more bytes than there
        are frames.
        """
        raw = np.frombuffer(np.ascontiguousarray(sound).tobytes(), np.uint8)
        share = -(-len(raw) // len(frames))
        filled = np.zeros(share * len(frames), np.uint8)
        filled[: len(raw)] = raw
        return np.concatenate([frames.reshape(len(frames), -1), filled.reshape(len(frames), share)], axis=1)

    def _scale(self, scale: str, *heads: str) -> float:
        """Return the factor of cosines in a logit: its scale, times the lengths of the vectors of two heads."""
        parts = ("layer_norm.weight", "layer_norm.bias", "proj.weight")
        tensors = [f"{head}.{part}" for head in heads for part in parts]
        found = read_tensors(self._folder, [scale, *tensors])
        lengths = [_mean_length(*(found[name] for name in tensors[n : n + 3])) for n in (0, 3)]
        return float(found[scale].abs()) * lengths[0] * lengths[1]


def _mean_length(weight: torch.Tensor, bias: torch.Tensor, projection: torch.Tensor) -> float:
    """Return the root of the mean squared length of W (w z + b) for z of mean 0 and variance 1, as of a layer norm."""
    spread = (projection.double() * weight.double()).square().sum()
    return float((spread + (projection.double() @ bias.double()).square().sum()).sqrt())


def _processor_facts(folder: Path) -> dict[str, Any]:
    """Return the settings of the processors of sounds and frames, with the defaults of the library."""
    whole = folder / PROCESSOR_FILE
    both = read_json(whole) if whole.is_file() else {}
    facts: dict[str, Any] = {"sampling_rate": 48_000, "hop_length": 1_920, "num_frames": None}
    for part, alone in (("feature_extractor", PREPROCESSOR_FILE), ("video_processor", VIDEO_PROCESSOR_FILE)):
        facts |= both[part] if part in both else read_json(folder / alone)
    return facts
