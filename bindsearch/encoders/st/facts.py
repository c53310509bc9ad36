"""Facts about a model of sentence-transformers that are known before it is loaded; kept in model.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from bindsearch.encoders.model_store.installed import ModelManifest, damaged_manifest
from bindsearch.types import Modality


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

    def to_architecture(self) -> dict[str, Any]:
        """Return the facts as values of JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


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
