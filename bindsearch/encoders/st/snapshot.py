"""Models of sentence-transformers in the model store: what may be loaded, and what a model embeds.

See `bindsearch.encoders.model_store.snapshot_pull.SnapshotFamily`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from bindsearch.encoders.model_store.snapshot_files import is_safe
from bindsearch.encoders.st.encoder import ModelFacts, embed, joint_name, token_counter
from bindsearch.encoders.st.inputs import MAX_PICTURE_PX, Parts, library_input, pack
from bindsearch.encoders.st.loading import check_libraries, load_library_model, one_line, read_json
from bindsearch.errors import BindSearchError, EncoderError
from bindsearch.types import Modality

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["check_files", "check_libraries", "describe"]

MAX_TOKENS = 8_192
"""Longest passage in tokens, also of models that take more: memory grows with the length."""

DEFAULT_SIDE_PX, DEFAULT_RATE_HZ = 512, 16_000
DEFAULT_FRAMES, FRAMES_PER_S = 32, 1.0
"""Of models whose processor does not state them."""

_MODULES = "sentence_transformers."
_CANDIDATES = (Modality.TEXT, Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)
_MATRYOSHKA = ("matryoshka_dims", "matryoshka_dimensions", "mrl_dims")
_SAMPLE_TEXT = "a bell"
_TWO_TEXTS = ("a bell 钟 звон जल", "a road 路 море फल")
"""Texts that have equal tokens only if a tokenizer knows no words at all."""


def check_files(name: str, files: Mapping[str, Path]) -> None:
    """Check before the weights are downloaded that a model can be loaded without code of its repository.

    Raises:
        EncoderError: it cannot; the message has the reason.
    """
    if reason := _obstacle(files):
        raise EncoderError(f"{name} cannot run here: {reason}")


def describe(name: str, folder: Path, dtype: str) -> tuple[Mapping[str, Any], Mapping[str, float]]:
    """Load a model once, embed a sample of each modality, and return the facts about it; temperatures are 1.

    Raises:
        EncoderError: the model cannot be loaded, embeds nothing, or is not made for cosines.
    """
    from bindsearch.encoders.torch_runtime.device import compute_dtype, resolve_device, torch_dtype

    device = resolve_device("auto")
    model = load_library_model(name, folder, compute_dtype(torch_dtype(dtype), device), device)
    try:
        facts = _describe(name, folder, model)
    except (BindSearchError, MemoryError):
        raise
    except Exception as error:  # of models, each with code of its own
        raise EncoderError(f"{name} cannot be used here: {one_line(error)}") from error
    architecture = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(facts).items()}
    return architecture, dict.fromkeys(facts.modalities, 1.0)


def _obstacle(files: Mapping[str, Path]) -> str:
    """Return why a model cannot be loaded; "" if nothing is against it."""
    modules = read_json(files["modules.json"]) if "modules.json" in files else None
    if not isinstance(modules, list) or not modules:
        if "adapter_config.json" in files:
            return "it is an adapter of another model: merge both and give the folder with --from"
        return "it has no modules.json, so it is not a model of sentence-transformers"
    for module in modules:
        facts = module if isinstance(module, dict) else {}
        kind, path = str(facts.get("type", "")), str(facts.get("path", ""))
        if not kind.startswith(_MODULES):
            return f"its module {kind[:100]!r} is code of its repository, which is never run"
        if path and not is_safe(path):
            return f"the folder {path[:100]!r} of a module is outside of its repository"
    for path, file in files.items():
        if foreign := _foreign_class(read_json(file) if path.endswith(".json") and "config" in path else None):
            return f"{path} names {foreign[:100]!r}, which is code of its repository and never run"
    first = str(modules[0].get("path", ""))
    config = read_json(files.get(str(PurePosixPath(first) / "config.json"), Path()))
    return _foreign_code(config) if isinstance(config, dict) else ""


def _foreign_class(config: Any) -> str:
    """Return a class that a module's configuration names and that is not of the libraries; "" for none."""
    if not isinstance(config, dict):
        return ""
    types = config.get("types")  # of a Router
    named = [str(kind) for kind in types.values()] if isinstance(types, dict) else []
    if foreign := next((kind for kind in named if not kind.startswith(_MODULES)), ""):
        return foreign
    activation = config.get("activation_function")  # of a Dense; in others it is a name such as "gelu"
    if isinstance(activation, str) and "." in activation and not activation.startswith("torch.nn."):
        return activation
    return ""


def _foreign_code(config: Mapping[str, Any]) -> str:
    """Return why a configuration of transformers needs code of its repository; "" if it needs none."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind, classes = config.get("model_type"), config.get("architectures")
    own = [str(name) for name in classes if not hasattr(transformers, str(name))] if isinstance(classes, list) else []
    has_code = "auto_map" in config
    missing = f"its architecture {kind!r}" if isinstance(kind, str) and kind not in CONFIG_MAPPING else ""
    if not missing and has_code and own:  # a class of its own under the name of a known one
        missing = f"its class {own[0]!r}"
    if not missing:
        return ""
    also = ", and code of its repository is never run" if has_code else ""
    return f"{missing[:150]} is not in transformers {transformers.__version__}{also}"


def _describe(name: str, folder: Path, model: SentenceTransformer) -> ModelFacts:
    """Return the facts about a loaded model."""
    processor = getattr(model, "processor", None)  # of static embeddings: none
    rate_hz = int(getattr(_part(processor, "feature_extractor"), "sampling_rate", DEFAULT_RATE_HZ))
    declared = [modality for modality in _CANDIDATES if _supports(model, modality)]
    text_only = declared == [Modality.TEXT]
    vectors, refused = _try_samples(model, declared, rate_hz, text_only=text_only)
    modalities = tuple(m.value for m in declared if m.value in vectors)
    if not modalities:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in refused.items()) or "it declares none"
        raise EncoderError(f"{name} embeds nothing here that can be searched: {reasons}")
    lengths = [float(np.linalg.norm(vector)) for vector, _ in vectors.values()]
    if model.similarity_fn_name != "cosine" and not all(0.99 < length < 1.01 for length in lengths):
        raise EncoderError(
            f"{name} compares vectors that are not of unit length by {model.similarity_fn_name!r}: here they are "
            "compared by their cosine, which gives other results"
        )
    dims = {len(vector) for vector, _ in vectors.values()}
    if len(dims) > 1:
        raise EncoderError(f"{name} has vectors of {' and '.join(map(str, sorted(dims)))} dimensions: not one space")
    tokenizer, max_tokens, added = "", 0, 0
    placeholders: tuple[str, ...] = ()
    if Modality.TEXT in modalities:
        _check_tokenizer(name, model, text_only=text_only)
        tokenizer = _tokenizer_file(folder)
        max_tokens, added = _token_limits(model, token_counter(folder, tokenizer), text_only=text_only)
        placeholders = _placeholders(model)
    video = _part(processor, "video_processor")
    fps = _number(getattr(video, "fps", None), FRAMES_PER_S)
    fewest = int(max(_number(getattr(video, "temporal_patch_size", None), 1), 1))
    stated = _number(getattr(video, "max_frames", None), _number(getattr(video, "num_frames", None), DEFAULT_FRAMES))
    frames = fewest, max(fewest, int(min(stated, DEFAULT_FRAMES)))
    return ModelFacts(
        dim=dims.pop(),
        modalities=modalities,
        joint=tuple(key for key in vectors if "+" in key),
        refused=refused,
        has_roles=any(not np.allclose(query, document, atol=1e-6) for document, query in vectors.values()),
        query_prompt=_prompt(model, "query"),
        document_prompt=_prompt(model, "document"),
        max_tokens=max_tokens,
        added_tokens=added,
        tokenizer=tokenizer,
        placeholders=placeholders,
        sample_rate_hz=rate_hz if Modality.AUDIO in modalities else 0,
        longest_s=_longest(processor, modalities, frames[1] / fps, rate_hz),
        picture_side_px=_picture_side(_part(processor, "image_processor")),
        frames_per_s=fps,
        frames=frames,
        shorter_dims=_shorter_dims(folder),
    )


def _supports(model: SentenceTransformer, *modalities: str) -> bool:
    """Return whether a model declares that it embeds a modality, or several as one input."""
    names: Any = modalities  # the library's own strings
    return model.supports(names[0] if len(names) == 1 else names)


def _try_samples(
    model: SentenceTransformer, declared: list[Modality], rate_hz: int, *, text_only: bool
) -> tuple[dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]], dict[str, str]]:
    """Return the vectors of samples, as what is indexed and as a query, by modality or joint input, and reasons."""
    vectors, refused = {}, {}
    for key, (modality, prepared) in _samples(declared, rate_hz).items():
        if "+" in key and not _supports(model, *key.split("+")):
            continue
        try:
            given = library_input(modality, prepared, rate_hz, text_only=text_only)
            document, query = (embed(model, [given], as_query=as_query)[0].cpu().numpy() for as_query in (False, True))
            if document.ndim != 1 or not np.isfinite(document).all() or not document.any():
                raise ValueError("its vector is empty, or holds NaN or infinity")
            vectors[key] = document, query
        except MemoryError:
            raise
        except Exception as error:  # of models, each with code of its own
            refused[key] = one_line(error)
    return vectors, refused


def _samples(declared: list[Modality], rate_hz: int) -> Mapping[str, tuple[Modality, np.ndarray[Any, Any]]]:
    """Return a prepared sample of each modality, and of their combinations with a picture or video."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (2, 128, 160, 3), np.uint8)
    sound = rng.uniform(-0.5, 0.5, rate_hz).astype(np.float32)
    plain = {
        Modality.TEXT: np.frombuffer(_SAMPLE_TEXT.encode(), np.uint8)[None],
        Modality.IMAGE: pictures[:1],
        Modality.VIDEO: pack(Parts("", pictures, 1.0, np.empty(0, np.float32))),
        Modality.AUDIO: sound[None],
    }
    samples = {modality.value: (modality, plain[modality]) for modality in declared}
    partners = {Modality.IMAGE: (Modality.TEXT,), Modality.VIDEO: (Modality.TEXT, Modality.AUDIO)}
    known = {one: [other for other in partners[one] if other in declared] for one in partners if one in declared}
    several = [(one, others) for one in known for count in (1, 2) for others in combinations(known[one], count)]
    for modality, others in several:
        text = _SAMPLE_TEXT if Modality.TEXT in others else ""
        shown, frames_per_s = (pictures, 1.0) if modality == Modality.VIDEO else (pictures[0], 0.0)
        heard = sound if Modality.AUDIO in others else np.empty(0, np.float32)
        samples[joint_name(modality, *others)] = modality, pack(Parts(text, shown, frames_per_s, heard))
    return samples


def _part(processor: Any, name: str) -> Any:
    """Return a part of a processor, or the processor itself if it is of that kind; None if there is none."""
    if (part := getattr(processor, name, None)) is not None:
        return part
    kinds = {"image_processor": "ImageProcessor", "feature_extractor": "FeatureExtractor", "video_processor": "Video"}
    return processor if kinds[name] in type(processor).__name__ else None


def _number(value: object, otherwise: float) -> float:
    """Return a positive number of a configuration, or another one."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
    return float(value) if is_number else otherwise  # type: ignore[arg-type]


def _prompt(model: SentenceTransformer, role: str) -> str:
    """Return the prompt of a role, as `encode_query` and `encode_document` choose it."""
    names = ("query",) if role == "query" else ("document", "passage", "corpus")
    chosen = next((name for name in names if name in model.prompts), model.default_prompt_name)
    return str(model.prompts.get(chosen or "") or "")


def _token_ids(model: SentenceTransformer, text: str, role: str, *, text_only: bool) -> Any:
    """Return the token ids of a text with the prompt of a role, a tensor (1, length); None if the model has none."""
    given = text if text_only else {"text": text}
    return model.preprocess([given], prompt=_prompt(model, role) or None, task=role).get("input_ids")


def _tokenizer_file(folder: Path) -> str:
    """Return the path of tokenizer.json: of the first module, or of the repository; "" if there is none."""
    modules = read_json(folder / "modules.json")
    first = str(modules[0].get("path", "")) if modules else ""
    of_parts = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/tokenizer.json"))
    paths = (str(PurePosixPath(first) / "tokenizer.json"), "tokenizer.json", *of_parts)  # parts: of a Router
    return next((path for path in paths if (folder / path).is_file()), "")


def _check_tokenizer(name: str, model: SentenceTransformer, *, text_only: bool) -> None:
    """Raise EncoderError if different texts are the same tokens: the library makes an empty tokenizer without files."""
    for role in ("query", "document"):
        first, second = (_token_ids(model, text, role, text_only=text_only) for text in _TWO_TEXTS)
        if first is not None and first.tolist() == second.tolist():
            raise EncoderError(
                f"{name} cannot be used here: its tokenizer gives different texts the same tokens; tokenizer.json or "
                "the files of its words are missing, or max_seq_length is shorter than the prompt"
            )


def _token_limits(model: SentenceTransformer, count: Any, *, text_only: bool) -> tuple[int, int]:
    """Return the longest input in tokens, and how many of them are not of the text itself."""
    stated = _number(getattr(model, "max_seq_length", None), MAX_TOKENS)
    config = getattr(model, "config", None)
    positions = getattr(config.get_text_config() if config is not None else None, "max_position_embeddings", None)
    longest = int(min(stated, _number(positions, MAX_TOKENS), MAX_TOKENS))
    added = 0
    for role in ("query", "document"):
        ids = _token_ids(model, _SAMPLE_TEXT, role, text_only=text_only)
        length = ids.shape[-1] if ids is not None and ids.ndim == 2 else count(_prompt(model, role) + _SAMPLE_TEXT)
        added = max(added, length - count(_SAMPLE_TEXT))
    return longest, added


def _placeholders(model: SentenceTransformer) -> tuple[str, ...]:
    """Return the tokens that stand for media: a passage that holds one would be counted as media."""
    owners, names = (getattr(model, "processor", None), getattr(model, "tokenizer", None)), ("image", "video", "audio")
    tokens = {getattr(owner, f"{name}_token", None) for owner in owners for name in names}
    return tuple(sorted(token for token in tokens if isinstance(token, str) and len(token) > 1))


def _longest(processor: Any, modalities: tuple[str, ...], video_s: float, rate_hz: int) -> Mapping[str, float]:
    """Return the longest span of sound and video that is embedded whole, where the processor states it."""
    longest = {}
    if Modality.VIDEO in modalities:
        longest[Modality.VIDEO.value] = video_s
    if Modality.AUDIO in modalities:
        extractor = _part(processor, "feature_extractor")
        tokens_s = _number(getattr(processor, "audio_seq_length", None), math.inf) * (
            _number(getattr(processor, "audio_ms_per_token", None), math.inf) / 1000
        )
        samples_s = _number(getattr(extractor, "n_samples", None), math.inf) / rate_hz
        stated_s = _number(getattr(extractor, "max_length_s", None), math.inf)
        seconds = min(tokens_s, samples_s, stated_s, _number(getattr(extractor, "chunk_length", None), math.inf))
        if math.isfinite(seconds):
            longest[Modality.AUDIO.value] = seconds
    return longest


def _picture_side(images: Any) -> int:
    """Return the side of a picture that a processor makes use of, in pixels."""
    size = getattr(images, "crop_size", None) or getattr(images, "size", None)
    side = next((found for key in ("height", "shortest_edge") if (found := _number(_value(size, key), 0))), 0.0)
    tokens, patch, pool = (
        _number(getattr(images, key, None), 0) for key in ("max_soft_tokens", "patch_size", "pooling_kernel_size")
    )
    if tokens and patch and pool:  # a budget of patches, as in Gemma 4
        side = math.sqrt(tokens) * patch * pool
    if getattr(images, "merge_size", None):  # sizes are areas, as in Qwen-VL
        side = math.sqrt(min(_number(_value(size, "longest_edge"), MAX_PICTURE_PX), MAX_PICTURE_PX))
    is_side = 0 < side <= math.sqrt(MAX_PICTURE_PX)
    return math.ceil(side) if is_side else DEFAULT_SIDE_PX


def _value(facts: Any, key: str) -> Any:
    """Return a value of a mapping, or of an object with attributes; None if there is none."""
    return facts.get(key) if isinstance(facts, Mapping) else getattr(facts, key, None)


def _shorter_dims(folder: Path) -> tuple[int, ...]:
    """Return the dimensions that a configuration states for truncated vectors."""
    for file in ("config_sentence_transformers.json", "config.json"):
        config = read_json(folder / file)
        for key in _MATRYOSHKA:
            dims = config.get(key) if isinstance(config, dict) else None
            if isinstance(dims, list) and all(type(dim) is int and dim > 1 for dim in dims):
                return tuple(sorted(dims))
    return ()
