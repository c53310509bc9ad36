"""Passages of cues that fit the encoder, each with the time from its first cue to the end of its last one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bindsearch.ingest.media.subtitles.cues import Cue
from bindsearch.ingest.media.texts.passages import CountTokens, passages

LONGEST_S = 60.0
"""Longest passage of several cues in seconds: its time is to tell where in the recording the words are."""

_CHARS_A_TOKEN = 100
"""As for passages of texts: a longer cue does not fit and is not counted."""


def timed_passages(cues: Sequence[Cue], count_tokens: CountTokens, max_tokens: int) -> Iterator[Cue]:
    """Yield consecutive cues as passages of at most `max_tokens` tokens, a line for each cue.

    A cue that does not fit is several passages, all with its time.

    Args:
        cues: cues by their start.
        count_tokens: returns the number of tokens of a text, special tokens included.
        max_tokens: maximum tokens of a passage.

    Raises:
        MediaError: a single character does not fit.
    """
    special = count_tokens("")
    group: list[Cue] = []
    tokens, end_s = special, 0.0
    for cue in cues:
        is_long = len(cue.text) > _CHARS_A_TOKEN * max_tokens
        cost = max_tokens if is_long else count_tokens(f"\n{cue.text}") - special
        if group and (tokens + cost > max_tokens or max(end_s, cue.end_s) - group[0].start_s > LONGEST_S):
            yield from _fitting(group, count_tokens, max_tokens)
            group, tokens, end_s = [], special, 0.0
        group.append(cue)
        tokens, end_s = tokens + cost, max(end_s, cue.end_s)
    yield from _fitting(group, count_tokens, max_tokens)


def _fitting(group: Sequence[Cue], count_tokens: CountTokens, max_tokens: int) -> Iterator[Cue]:
    """Yield cues as one passage; as several if the tokenizer makes more tokens of the whole than of its parts."""
    if len(group) == 1:
        for passage in passages(group[0].text, count_tokens, max_tokens):
            yield Cue(group[0].start_s, group[0].end_s, passage)
        return
    text = "\n".join(cue.text for cue in group)
    if group and count_tokens(text) > max_tokens:
        half = len(group) // 2
        yield from _fitting(group[:half], count_tokens, max_tokens)
        yield from _fitting(group[half:], count_tokens, max_tokens)
    elif group:
        yield Cue(group[0].start_s, max(cue.end_s for cue in group), text)
