"""Encoders by name: built in, installed, of other packages; and what is said where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bindsearch as bs
from bindsearch.encoders import Encoder, encode_media, has_options, load_encoder
from bindsearch.encoders.model_store.installed import FORMAT, MANIFEST_FILE, model_folder
from bindsearch.encoders.model_store.source import DETECTOR_TYPES, can_be_pulled
from bindsearch.encoders.null import NullEncoder
from bindsearch.encoders.registry import BUILT_IN, LISTED, other_use
from bindsearch.errors import EncoderError, UsageError
from bindsearch.media import Passage

MODULE = """
from bindsearch.encoders.null import NullEncoder

class Whole(NullEncoder):
    name = "whole"

class Nameless(NullEncoder):
    pass

class Partial:
    name = "partial"
    dim = 3
    encode = None

def missing():
    import no_such_package

def refused():
    from bindsearch.errors import EncoderError
    raise EncoderError("whole needs a licence key: set WHOLE_KEY")

not_callable = 3
"""

PREPROCESS = {"size_px": 8, "mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bicubic", "resize_mode": "squash"}


@pytest.fixture(autouse=True)
def models_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDSEARCH_MODELS", str(tmp_path / "models"))


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a distribution that offers encoders on the path; called with its name and its entry points."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "offered_encoders.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(site))

    def make(package: str, **encoders: str) -> None:
        facts = site / f"{package}-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name.replace('__', '-')} = offered_encoders:{value}" for name, value in encoders.items()]
        (facts / "entry_points.txt").write_text("\n".join(["[bindsearch.encoders]", *lines, ""]))

    return make


def write_manifest(name: str, **facts: Any) -> None:
    folder = model_folder(name)
    folder.mkdir(parents=True)
    manifest = {
        "format": FORMAT,
        "name": name,
        "family": "openclip",
        "architecture": {"config": {"embed_dim": 8, "text_cfg": {}, "vision_cfg": {}}, "preprocess": PREPROCESS},
        "dtype": "fp32",
        "source": "",
        "source_sha256": "",
        "source_bytes": 0,
        "license": "",
        "created": "",
        "temperatures": {},
        "files": {},
    }
    (folder / MANIFEST_FILE).write_text(json.dumps({**manifest, **facts}))


def test_built_in_encoders_load_by_name() -> None:
    assert {"mini", "null", *LISTED} <= BUILT_IN.keys()
    for name in BUILT_IN:
        assert load_encoder(name).name == name
    assert bs.load_encoder is load_encoder


def test_loading_an_encoder_loads_no_torch() -> None:
    program = "import sys, bindsearch as bs; bs.load_encoder('mini'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_an_unknown_name_lists_what_there_is(offer: Any) -> None:
    with pytest.raises(EncoderError, match="unknown encoder 'maxi': the encoders are mini; `bindsearch model pull"):
        load_encoder("maxi")
    offer("one", whole="Whole", other="Whole")
    write_manifest("openclip:ViT-B-32/openai")
    message = "are mini; installed models: openclip:ViT-B-32/openai; of other packages: other, whole; .* imagebind-huge"
    with pytest.raises(EncoderError, match=message):
        load_encoder("maxi")


@pytest.mark.parametrize("name", ["imagebind-huge", "openclip:ViT-B-32/openai"])
def test_a_model_that_is_not_here_names_the_command_that_brings_it(name: str) -> None:
    with pytest.raises(EncoderError, match=f"download it with `bindsearch model pull {name}`"):
        load_encoder(name)


def test_an_installed_model_is_run_by_its_family() -> None:
    write_manifest("openclip:ViT-B-32/openai")
    encoder = load_encoder("openclip:ViT-B-32/openai")
    assert (encoder.name, encoder.dim) == ("openclip:ViT-B-32/openai", 8)
    write_manifest("openclip:odd/one", family="other")
    with pytest.raises(EncoderError, match="openclip:odd/one is of the family 'other' instead of 'openclip'"):
        load_encoder("openclip:odd/one")
    write_manifest("openclip:bare/one", architecture={"config": {}})
    with pytest.raises(EncoderError, match=r"model\.json of openclip:bare/one is damaged \('preprocess'\)"):
        load_encoder("openclip:bare/one")


def test_only_imagebind_has_options_to_set() -> None:
    assert has_options("imagebind-huge")
    assert not any(map(has_options, ("mini", "null", "openclip:ViT-B-32/openai", "whole")))


def test_options_of_other_encoders_may_be_said_but_not_changed() -> None:
    own = load_encoder("mini").options
    assert load_encoder("mini", options=own).options == own
    assert load_encoder("mini", options={"picture_side_px": "224"}).options == own  # as a command line gives it
    with pytest.raises(UsageError, match="picture_side_px=512 cannot be set: the encoder mini has picture_side_px=224"):
        load_encoder("mini", options={"picture_side_px": 512})
    with pytest.raises(
        UsageError, match="crops=3 cannot be set: the encoder null has no option crops, and its options are fixed"
    ):
        load_encoder("null", options={"crops": 3})


def test_an_encoder_of_another_package_is_loaded(offer: Any) -> None:
    offer("one", whole="Whole")
    encoder: Encoder = load_encoder("whole")
    vectors = encode_media(encoder, [Passage("a"), Passage("b")])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    with pytest.raises(UsageError, match="encoder whole has no option crops"):
        load_encoder("whole", options={"crops": 3})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "missing",
            r"x of the package one cannot be loaded \(ModuleNotFoundError: No module named 'no_such_package'\)",
        ),
        ("nothing", r"x of the package one cannot be loaded \(AttributeError: .*nothing"),
        ("not_callable", r"x of the package one cannot be loaded \(TypeError: 'int' object is not callable"),
        (
            "Partial",
            r"x of the package one lacks digest, .*count_tokens\(\), prepare\(\), features\(\), encode\(\): see",
        ),
        ("Nameless", "x of the package one has the name 'null': both names must be the same"),
        ("refused", "^whole needs a licence key: set WHOLE_KEY$"),
    ],
)
def test_a_package_at_fault_is_named_with_the_fault(offer: Any, value: str, message: str) -> None:
    offer("one", x=value)
    with pytest.raises(EncoderError, match=message):
        load_encoder("x")


def test_a_name_offered_twice_names_both_packages(offer: Any) -> None:
    offer("one", whole="Whole")
    offer("two", whole="Whole")
    with pytest.raises(EncoderError, match="whole is provided by one and two: uninstall all but one"):
        load_encoder("whole")


@pytest.mark.parametrize("name", ["mini", "null", "imagebind__huge"])
def test_a_name_of_bindsearchs_own_cannot_be_taken(offer: Any, name: str) -> None:
    offer("one", **{name: "Whole"})
    with pytest.raises(
        EncoderError, match=f"package one provides an encoder {name.replace('__', '-')}, which is a reserved name"
    ):
        load_encoder(name.replace("__", "-"))


def test_nothing_of_the_protocol_is_lacking_in_what_is_built_in() -> None:
    from bindsearch.encoders.registry import _lacking

    assert _lacking(NullEncoder()) == []
    assert _lacking(load_encoder("mini")) == []
    assert "name" in _lacking(object())


def test_every_model_that_is_no_encoder_has_another_use() -> None:
    for prefix in (*DETECTOR_TYPES, "unclip:"):
        assert other_use(f"{prefix}org/name") is not None
        assert can_be_pulled(f"{prefix}org/name")
    assert other_use("hf:org/name") is None
