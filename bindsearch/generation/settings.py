"""Settings of pictures that are made from a query."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from bindsearch.arguments import shown, to_flag, to_integer, to_number
from bindsearch.encoders.torch_runtime.device import DTYPES
from bindsearch.errors import UsageError

STEPS = 25
"""Steps of a picture by default."""

GUIDANCE = 10.0
"""Classifier-free guidance (arXiv 2207.12598), the pipeline's default: the difference that embedding and prompt make is
multiplied by it."""

MAX_COUNT = 100
MAX_SEED = 2**48 - 1
MIN_SIDE_PX, MAX_SIDE_PX, SIDE_MULTIPLE = 32, 4096, 8
MAX_PROMPT_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSettings:
    """Settings of the pictures of one query.

    Attributes:
        prompt: Text for the decoder besides the embedding; "" for the embedding alone.
        strength: How strongly the query drives a picture, 0..1; see `noise_level`.
        steps: Steps of a picture; more are slower and finer.
        seed: Seed of the first picture, the next ones have the next seeds; None: one is drawn.
        size: Width and height in pixels, or one number for both; None: those that the decoder was trained on.
        count: Number of pictures.
        dtype: Number format, "fp32", "bf16" or "fp16"; None: fp16 on a GPU, fp32 on a CPU.
        any_space: Whether the embedding may be of another space than the decoder's; dimensions must match.

    Raises:
        UsageError: a value is invalid.
    """

    prompt: str = ""
    strength: float = 1.0
    steps: int = STEPS
    seed: int | None = None
    size: int | Sequence[int] | None = None
    count: int = 1
    dtype: str | None = None
    any_space: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str) or len(self.prompt) > MAX_PROMPT_CHARACTERS:
            raise UsageError(
                f"the prompt is {shown(self.prompt)}: give a text of at most {MAX_PROMPT_CHARACTERS:,} letters"
            )
        if self.dtype is not None and self.dtype not in DTYPES:
            raise UsageError(f"unknown number format {shown(self.dtype)}: choose from {', '.join(DTYPES)}")
        count = to_integer(self.count, "the number of pictures", f"give a number from 1 to {MAX_COUNT}", 1)
        if count > MAX_COUNT:
            raise UsageError(f"the number of pictures is {shown(count)}: give a number from 1 to {MAX_COUNT}")
        seed = secrets.randbelow(2**32) if self.seed is None else to_integer(self.seed, "the seed", _SEEDS)
        if seed > MAX_SEED - count:
            raise UsageError(f"the seed is {shown(seed)}: {_SEEDS}")
        checked = {
            "strength": to_number(self.strength, "the strength", "give a number from 0 to 1", 0.0, 1.0),
            "steps": to_integer(self.steps, "the number of steps", "give a number from 1", 1),
            "seed": seed,
            "size": _sides(self.size),
            "count": count,
            "any_space": to_flag(self.any_space, "any_space"),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def seeds(self) -> range:
        """Return the seed of each picture."""
        assert self.seed is not None  # it was drawn
        return range(self.seed, self.seed + self.count)

    def sides(self, side_px: int) -> tuple[int, int]:
        """Return width and height in pixels, given the side of the pictures that the decoder was trained on."""
        return (side_px, side_px) if self.size is None else (self.size[0], self.size[1])  # type: ignore[index]

    def noise_level(self, levels: int) -> int:
        """Return the level of the noise that is added to the embedding: round((1 - strength) * (levels - 1)).

        Strength 1 adds the least noise, level 0; strength 0 adds the most, which leaves nearly nothing of the query.
        """
        return round((1.0 - self.strength) * (levels - 1))


_SEEDS = f"give a number from 0 to {MAX_SEED - MAX_COUNT}"


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height of a text such as "768" or "768x512".

    Raises:
        UsageError: it has another form, or a side is out of range.
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isascii() and part.isdecimal() and len(part) <= 9 for part in parts):
        raise UsageError(f"the size is {shown(text)}: give one such as 768 or 768x512")
    return _sides([int(part) for part in parts]) or (0, 0)


def _sides(size: object) -> tuple[int, int] | None:
    """Return width and height; None for none; raise UsageError if a side is not allowed."""
    if size is None:
        return None
    expected = f"give sides from {MIN_SIDE_PX} to {MAX_SIDE_PX} that are multiples of {SIDE_MULTIPLE}"
    sides = list(size) if isinstance(size, Sequence) and not isinstance(size, str | bytes) else [size]
    checked = [to_integer(side, "the size", expected, MIN_SIDE_PX) for side in sides]
    if len(checked) not in (1, 2) or any(side > MAX_SIDE_PX or side % SIDE_MULTIPLE for side in checked):
        raise UsageError(f"the size is {shown(size)}: {expected}")
    return checked[0], checked[-1]
