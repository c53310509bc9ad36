"""StEncoder: all modalities that a model of sentence-transformers embeds, in its space."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.model_store.installed import (
    ModelManifest,
    check_not_replaced,
    damaged_manifest,
    snapshot_folder,
)
from bindsearch.encoders.st.inputs import (
    MAX_PICTURE_PX,
    Parts,
    at_rate,
    chosen_frames,
    library_input,
    pack,
    reduced,
)
from bindsearch.encoders.st.loading import check_libraries, load_library_model, one_line
from bindsearch.encoders.torch_runtime.device import DEFAULT_RUNTIME, Runtime, resolve_device, run_in_batches
from bindsearch.encoders.torch_runtime.threads import all_threads
from bindsearch.errors import BindSearchError, EncoderError, MediaError, UsageError
from bindsearch.hashing import fingerprint_of
from bindsearch.media import MODALITY_OF, DecodeHints, Frames, Media, Passage, Picture, Sound
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

PREPROCESSING_VERSION = 1
"""Version of the preprocessing code; increased when code, not weights or options, changes the vectors."""

JOINT_OPTION = "joint"
JOINT: Mapping[str, frozenset[Modality]] = MappingProxyType(
    {
        "none": frozenset(),
        "captions": frozenset({Modality.TEXT}),
        "sound": frozenset({Modality.AUDIO}),
        "all": frozenset({Modality.TEXT, Modality.AUDIO}),
    }
)
"""Values of the option: what indexed pictures and videos are embedded with as one input."""

_BATCHES: Mapping[str, Mapping[Modality, int]] = MappingProxyType(
    {
        "cpu": {Modality.TEXT: 16, Modality.IMAGE: 4, Modality.AUDIO: 4, Modality.VIDEO: 1},
        "cuda": {Modality.TEXT: 64, Modality.IMAGE: 16, Modality.AUDIO: 16, Modality.VIDEO: 4},
    }
)
"""Inputs in a batch: of such models a picture has hundreds of tokens, a video thousands."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts about a model.

    Attributes:
        dim: Dimension of its vectors.
        modalities: Modalities that it embeds.
        joint: What it embeds as one input, such as "image+text": names in alphabetical order.
        refused: Modalities and joint inputs that it declares, but does not embed here, with the reason.
        has_roles: Whether queries are embedded otherwise than what is indexed.
        query_prompt: Prompt of queries.
        document_prompt: Prompt of what is indexed.
        max_tokens: Longest input in tokens.
        added_tokens: Tokens that a prompt, a template and special tokens add to a text, at most.
        tokenizer: Path of tokenizer.json in the repository; "" if there is none.
        placeholders: Texts that stand for media in the model's input, and cannot be part of a passage.
        sample_rate_hz: Rate that sound is embedded at; 0: no sound.
        longest_s: Longest span in seconds that is embedded whole, by modality, where it is known.
        picture_side_px: Shorter side of a picture that the model makes use of.
        frames_per_s: Rate that videos are sampled at.
        frames: Fewest and most frames of a video.
        shorter_dims: Dimensions that the first part of a vector may have (Matryoshka), if they are stated.
    """

    dim: int
    modalities: tuple[str, ...]
    joint: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    has_roles: bool = False
    query_prompt: str = ""
    document_prompt: str = ""
    max_tokens: int = 0
    added_tokens: int = 0
    tokenizer: str = ""
    placeholders: tuple[str, ...] = ()
    sample_rate_hz: int = 0
    longest_s: Mapping[str, float] = field(default_factory=dict)
    picture_side_px: int = 0
    frames_per_s: float = 1.0
    frames: tuple[int, int] = (1, 1)
    shorter_dims: tuple[int, ...] = ()


def joint_name(*modalities: str) -> str:
    """Return the name of a joint input: "image+text"."""
    return "+".join(sorted(modalities))


def read_facts(manifest: ModelManifest) -> ModelFacts:
    """Return the facts in the manifest of an installed model.

    Raises:
        EncoderError: the manifest is damaged.
    """
    try:
        given = dict(manifest.architecture)
        values: dict[str, Any] = {key.name: given.pop(key.name) for key in fields(ModelFacts) if key.name in given}
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        facts = ModelFacts(**values)
        is_valid = facts.dim > 0 and facts.frames_per_s > 0 and 1 <= facts.frames[0] <= facts.frames[1]
        if not is_valid or not facts.modalities or not {Modality(name) for name in facts.modalities}:
            raise ValueError("a value is out of range")
    except (TypeError, ValueError, AttributeError) as error:
        raise damaged_manifest(manifest, error) from error
    return facts


class LoadedModel:
    """Model of sentence-transformers that is loaded on first use; one call at a time runs it."""

    def __init__(self, manifest: ModelManifest, runtime: Runtime) -> None:
        self._manifest, self._runtime = manifest, runtime
        self.model: SentenceTransformer | None = None
        self._lock = threading.Lock()

    def encode(self, modality: Modality, inputs: Sequence[Any], *, as_query: bool) -> NDArray[np.float32]:
        """Embed n inputs in batches: float32 (n, d), as the library returns them.

        Raises:
            EncoderError: the model cannot be loaded, or refuses an input.
        """
        import torch

        with self._lock, all_threads(), torch.inference_mode():
            device = resolve_device(self._runtime.device)
            model = self._loaded(device)

            def run(start: int, stop: int) -> torch.Tensor:
                return embed(model, list(inputs[start:stop]), as_query=as_query)

            batch = self._runtime.batch or _BATCHES[device.type][modality]
            try:
                parts, _ = run_in_batches(run, len(inputs), batch)
            except (BindSearchError, MemoryError):
                raise
            except Exception as error:  # of models, each with code of its own
                raise EncoderError(f"{self._manifest.name} cannot embed {modality}: {one_line(error)}") from error
            whole: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
            return whole

    def _loaded(self, device: torch.device) -> SentenceTransformer:
        """Return the model, loaded and compiled on first use."""
        if self.model is None:
            from bindsearch.encoders.torch_runtime.device import compute_dtype, torch_dtype

            dtype = compute_dtype(torch_dtype(self._manifest.dtype), device)
            model = load_library_model(self._manifest.name, snapshot_folder(self._manifest), dtype, device)
            check_not_replaced(self._manifest)
            if self._runtime.compile:
                model.compile()
            self.model = model
        return self.model


def embed(model: SentenceTransformer, inputs: list[Any], *, as_query: bool) -> torch.Tensor:
    """Embed n inputs by the library, in one batch: float32 (n, d).

    Frames of videos are taken as they are: they were sampled before.
    """
    has_video = any(isinstance(given, dict) and ("video" in given or "video_metadata" in given) for given in inputs)
    options: dict[str, Any] = {"processing_kwargs": {"video": {"do_sample_frames": False}}} if has_video else {}
    run: Callable[..., torch.Tensor] = model.encode_query if as_query else model.encode_document
    vectors = run(inputs, batch_size=len(inputs), convert_to_tensor=True, show_progress_bar=False, **options)
    return vectors.float()


class StEncoder:
    """Encoder with a model of sentence-transformers; see `bindsearch.encoders.base.Encoder`.

    Only model.json and the tokenizer are read before the model runs.
    """

    def __init__(
        self,
        manifest: ModelManifest,
        *,
        options: Mapping[str, str | int | float | bool] | None = None,
        runtime: Runtime = DEFAULT_RUNTIME,
        as_query: bool = False,
    ) -> None:
        """Create the encoder of an installed model.

        Args:
            manifest: Manifest of the model.
            options: Options by name: `joint`, see JOINT.
            runtime: Device and settings that the model runs with.
            as_query: Embed queries instead of what is indexed.

        Raises:
            InstallationError: sentence-transformers is missing, or too old.
            EncoderError: the manifest is damaged.
            UsageError: an option is unknown, or the model does not embed such inputs.
        """
        check_libraries()
        self._manifest, self._runtime, self._is_query = manifest, runtime, as_query
        self._facts = facts = read_facts(manifest)
        joint = _parse_joint(manifest.name, facts, options or {})
        self._model = LoadedModel(manifest, runtime)
        self.name, self.dim = manifest.name, facts.dim
        # Number formats and roles share the space.
        self.digest = fingerprint_of(str(PREPROCESSING_VERSION), manifest.source_sha256)
        self.options: Mapping[str, str | int | float | bool] = {JOINT_OPTION: joint} if facts.joint else {}
        self.modalities = frozenset(Modality(name) for name in facts.modalities)
        media = (Modality.IMAGE, Modality.VIDEO)
        self.captioned = frozenset(m for m in media if joint_name(m, Modality.TEXT) in facts.joint)
        self.shorter_dims, self.max_tokens = facts.shorter_dims, facts.max_tokens
        common = ("torch", "transformers", "sentence_transformers")
        more = {Modality.IMAGE: ("torchvision",), Modality.VIDEO: ("torchvision",), Modality.AUDIO: ("torchaudio",)}
        self.libraries = MappingProxyType({one: (*common, *more.get(one, ())) for one in self.modalities})
        # Such models are used without a logit scale.
        self.temperatures: Mapping[Modality, float] = MappingProxyType(dict.fromkeys(self.modalities, 1.0))
        self.wants = DecodeHints(
            picture_side_px=facts.picture_side_px,
            frames_per_s=facts.frames_per_s,
            longest_s={Modality(name): seconds for name, seconds in facts.longest_s.items()},
            joint=JOINT[joint],
        )

    def __reduce__(self) -> tuple[Callable[[], StEncoder], tuple[()]]:
        """Recreate the encoder in another process; the model loads there on first use."""
        make = partial(StEncoder, self._manifest, options=self.options, runtime=self._runtime, as_query=self._is_query)
        return make, ()

    @property
    def loaded_towers(self) -> frozenset[str]:
        """Name of the model if it is in memory."""
        return frozenset({"model"} if self._model.model is not None else ())

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, with those of the prompt and of the model's template."""
        return self._count(text) + self._facts.added_tokens

    def as_query(self, target: Modality | None) -> StEncoder:  # noqa: ARG002  (of the protocol)
        """Return the encoder of queries: it shares the model, and is this one if the model makes no difference."""
        return self if self._is_query or not self._facts.has_roles else self._query

    @cached_property
    def _query(self) -> StEncoder:
        query = copy(self)  # shares the model
        query._is_query = True
        return query

    def prepare(self, media: Media) -> NDArray[Any]:
        """Return a medium as a plain array with one view, see `bindsearch.encoders.st.inputs`; thread-safe.

        Raises:
            MediaError: the medium has no content, is too long, or is a picture that the model cannot take.
            EncoderError: the model does not embed that modality, or not together with a caption or sound.
        """
        modality = MODALITY_OF[type(media)]
        if modality not in self.modalities:
            raise self._refusal(modality)
        match media:
            case Passage(text=text):
                return np.frombuffer(self._checked(text).encode(), np.uint8)[None]
            case Picture(rgb=rgb, caption=caption):
                picture = reduced(rgb, MAX_PICTURE_PX)
                if not caption:
                    return picture[None]
                self._check_joint(modality, Modality.TEXT)
                return pack(Parts(self._checked(caption), picture, 0.0, np.empty(0, np.float32)))
            case Frames(caption=caption, sound=sound):
                pictures, frames_per_s = chosen_frames(media, *self._facts.frames)
                self._check_joint(modality, *[Modality.TEXT] * bool(caption), *[Modality.AUDIO] * (sound is not None))
                heard = np.empty(0, np.float32) if sound is None else at_rate(sound, self._facts.sample_rate_hz)
                return pack(Parts(self._checked(caption) if caption else "", pictures, frames_per_s, heard))
            case Sound():
                return at_rate(media, self._facts.sample_rate_hz)[None]
        raise self._refusal(modality)

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the vectors of n prepared media, whose temperature is 1: float32 (n, d)."""
        return self.encode(modality, prepared)

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed n prepared media of one modality: float32 (n, d), unit L2 norm."""
        if modality not in self.modalities:
            raise self._refusal(modality)
        order = np.argsort([array.size for array in prepared], kind="stable")  # inputs of a length share a batch
        text_only = self.modalities == {Modality.TEXT}
        rate_hz = self._facts.sample_rate_hz
        inputs = [library_input(modality, prepared[row], rate_hz, text_only=text_only) for row in order]
        in_order = self._model.encode(modality, inputs, as_query=self._is_query)
        vectors = np.empty_like(in_order)
        vectors[order] = in_order
        return l2_normalize(vectors)

    def _checked(self, text: str) -> str:
        """Return a text in which nothing stands for media; raise MediaError if it is empty or too long."""
        if not text.strip():
            raise MediaError("the text is empty")
        for token in self._facts.placeholders:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        if (count := self.count_tokens(text)) > self.max_tokens:
            raise MediaError(f"the text has {count} tokens, {self.name} takes at most {self.max_tokens}")
        return text

    def _check_joint(self, modality: Modality, *others: Modality) -> None:
        """Raise EncoderError if the model does not embed such media as one input."""
        name = joint_name(modality, *others)
        if others and name not in self._facts.joint:
            reason = self._facts.refused.get(name, "its inputs have one modality")
            raise EncoderError(f"{self.name} does not embed {name.replace('+', ' and ')} as one input: {reason}")

    def _refusal(self, modality: Modality) -> EncoderError:
        """Return the error for a modality that the model does not embed."""
        known = ", ".join(sorted(self.modalities))
        reason = self._facts.refused.get(modality)
        return EncoderError(
            f"{self.name} does not embed {modality}" + (f" here ({reason})" if reason else "") + f": it embeds {known}"
        )

    @cached_property
    def _count(self) -> Callable[[str], int]:
        """Counter of the tokens of a text alone."""
        return token_counter(snapshot_folder(self._manifest), self._facts.tokenizer)


def token_counter(folder: Path, tokenizer: str) -> Callable[[str], int]:
    """Return a function that counts the tokens of a text, without special ones; thread-safe.

    Args:
        folder: Folder of the repository.
        tokenizer: Path of tokenizer.json in it; "": it is made of other files by transformers.

    Raises:
        EncoderError: the file is damaged.
    """
    if tokenizer:
        from tokenizers import Tokenizer

        try:
            fast = Tokenizer.from_file(str(folder / tokenizer))
        except Exception as error:  # the library raises plain Exception
            fault = f"cannot be read ({one_line(error)})"
            raise EncoderError(f"{folder / tokenizer} {fault}: pull the model again") from None
        fast.no_truncation()
        fast.no_padding()
        return lambda text: len(fast.encode(text, add_special_tokens=False).ids)
    from transformers import AutoTokenizer

    slow, lock = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False), threading.Lock()

    def count(text: str) -> int:
        with lock:
            return len(slow(text, add_special_tokens=False)["input_ids"])

    return count


def _parse_joint(name: str, facts: ModelFacts, options: Mapping[str, str | int | float | bool]) -> str:
    """Return the value of the option `joint`; raise UsageError for a wrong one, or one that the model cannot do."""
    if odd := sorted(options.keys() - {JOINT_OPTION}):
        raise UsageError(f"{odd[0]}={options[odd[0]]} cannot be set: the encoder {name} has no option {odd[0]}")
    value = str(options.get(JOINT_OPTION, "none"))
    if value not in JOINT:
        raise UsageError(f"joint is {value!r}: choose {', '.join(JOINT)}")
    wanted = JOINT[value]
    needed = [joint_name(Modality.VIDEO, *wanted)] if Modality.VIDEO in facts.modalities else []
    if Modality.TEXT in wanted and Modality.IMAGE in facts.modalities:
        needed.append(joint_name(Modality.IMAGE, Modality.TEXT))
    if wanted and (not needed or not {*needed} <= {*facts.joint}):
        can = ", ".join(facts.joint) or "none"
        raise UsageError(f"joint={value} cannot be set: inputs of several modalities that {name} embeds are {can}")
    return value
