"""Classification rules: MODALITY=GLOB of `--modality-rule`, and those of a folder's `.bindsearch.toml`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bindsearch.arguments import did_you_mean
from bindsearch.errors import UsageError
from bindsearch.ingest.inspect.globs import glob_matches, parse_glob
from bindsearch.types import Modality


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: files that match `pattern` are of `modality`."""

    modality: Modality
    pattern: str

    def matches(self, rel_path: str) -> bool:
        """Return whether the file at `rel_path` inside its collection matches."""
        return glob_matches(self.pattern, rel_path)


def rule_for(rel_path: str, rules: Sequence[Rule]) -> Rule | None:
    """Return the first rule that matches a relative path; None if none does."""
    return next((rule for rule in rules if rule.matches(rel_path)), None)


def parse_rule(text: str) -> Rule:
    """Return the rule of a MODALITY=GLOB, the value of `--modality-rule`.

    Raises:
        UsageError: the modality or the glob is invalid.
    """
    name, equals, glob = text.partition("=")
    if not equals:
        raise UsageError(f"--modality-rule {text!r}: expected MODALITY=GLOB, such as depth='**/depth/*.png'")
    return make_rule(name, glob, "--modality-rule")


def make_rule(name: str, glob: str, source: str) -> Rule:
    """Return the rule of a modality name and a glob; `source` names its origin in errors.

    Raises:
        UsageError: the modality or the glob is invalid.
    """
    try:
        modality = Modality(name.strip().lower())
    except ValueError:
        near = did_you_mean(name, Modality)
        raise UsageError(f"{source}: unknown modality {name!r}: {near}expected one of {', '.join(Modality)}") from None
    return Rule(modality, parse_glob(glob, f"{source} {modality}"))
