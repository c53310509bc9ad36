"""BoundEncoder: a hub, and towers that were trained towards its space with `bindsearch bind`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bindsearch.encoders.base import Encoder, captioned_modalities, locatable_modalities, locating, query_encoder
from bindsearch.encoders.bound.tower_config import HUB, LABEL_NETWORKS, TowerConfig, read_config
from bindsearch.encoders.model_store.installed import (
    BOUND_PREFIX,
    ModelManifest,
    check_not_replaced,
    damaged_manifest,
    tower_file,
)
from bindsearch.encoders.preprocessing.crops import as_picture
from bindsearch.encoders.torch_runtime.device import DEFAULT_RUNTIME, Runtime
from bindsearch.encoders.torch_runtime.towers import Towers, mean_of_views, on_device
from bindsearch.errors import EncoderError, MediaError, UsageError
from bindsearch.hashing import fingerprint_of
from bindsearch.media import MODALITY_OF, DecodeHints, DepthMap, Media, Motion, Sound, ThermalPicture
from bindsearch.types import Modality
from bindsearch.vectors import l2_normalize, scale_features

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

PREPROCESSING_VERSION = 1
"""Version of the code of bound towers; increased when code, not weights or settings, changes the vectors."""

MOTION_S = 5.0
"""Length of a view of motion in seconds, as ImageBind's."""


class BoundEncoder:
    """Encoder of a hub and bound towers; see `bindsearch.encoders.base.Encoder`.

    A modality that has a bound tower is embedded by it, every other one by the hub.
    """

    def __init__(self, manifest: ModelManifest, hub: Encoder, *, runtime: Runtime = DEFAULT_RUNTIME) -> None:
        """Create the encoder of an installed model.

        Raises:
            EncoderError: the manifest is damaged, or the hub is not the one that the towers were trained with.
        """
        self.manifest, self.hub, self.configs = manifest, hub, read_configs(manifest)
        self._runtime = runtime
        if manifest.architecture["hub_digest"] != hub.digest:
            raise EncoderError(
                f"{manifest.name} was bound to another version of {hub.name} than the installed one: bind it again, "
                f"or install that version of {hub.name}"
            )
        if odd := [config for config in self.configs.values() if config.dim != hub.dim]:
            raise damaged_manifest(manifest, f"dim is {odd[0].dim}, {hub.name} has {hub.dim}")
        self._towers = Towers(self._load, runtime)
        self._heads: dict[int, BoundEncoder] = {}
        self.name, self.dim = manifest.name, hub.dim
        self.digest = fingerprint_of(str(PREPROCESSING_VERSION), hub.digest, manifest.source_sha256)
        towers = {f"{modality}_tower": config.network for modality, config in self.configs.items()}
        self.options: Mapping[str, str | int | float | bool] = {**hub.options, **towers}
        self.modalities = hub.modalities.union(self.configs)
        self.captioned = captioned_modalities(hub).difference(self.configs)
        self.locatable = locatable_modalities(hub).difference(self.configs)
        own = ("torch", "safetensors", "torchaudio", "scipy.ndimage")
        declared: Mapping[Modality, tuple[str, ...]] = getattr(hub, "libraries", {})
        self.libraries = MappingProxyType({**declared, **dict.fromkeys(self.configs, own)})

    def __reduce__(self) -> tuple[Callable[[], BoundEncoder], tuple[()]]:
        """Recreate the encoder in another process; towers load there on first use."""
        return partial(BoundEncoder, self.manifest, self.hub, runtime=self._runtime), ()

    @cached_property
    def temperatures(self) -> Mapping[Modality, float]:
        """Logit scales: of bound towers those that they were trained with, of others the hub's."""
        bound = {modality: self.manifest.temperatures[modality] for modality in self.configs}
        return MappingProxyType({**self.hub.temperatures, **bound})

    @property
    def wants(self) -> DecodeHints:
        """Pictures and frames as the hub wants them, and at least as large as the towers'."""
        hub = self.hub.wants
        sides = [config.side_px for config in self.configs.values() if config.network != HUB]
        motion_s = MOTION_S if Modality.IMU in self.configs else hub.motion_s
        longest_s = {modality: length for modality, length in hub.longest_s.items() if modality not in self.configs}
        is_seen_by_hub = not {Modality.IMAGE, Modality.VIDEO} & self.configs.keys()
        joint = hub.joint if is_seen_by_hub else frozenset[Modality]()
        return DecodeHints(max([hub.picture_side_px, *sides]), hub.frames_per_s, motion_s, longest_s, joint)

    def as_query(self, target: Modality | None) -> BoundEncoder:
        """Return the encoder of queries: its hub is the hub's own, the bound towers are the same."""
        head = query_encoder(self.hub, target)
        if head is self.hub:
            return self
        if id(head) not in self._heads:  # held by the encoder of its queries: ids are not reused
            asking = copy(self)
            asking.hub, asking._heads = head, {}
            vars(asking).pop("temperatures", None)
            self._heads[id(head)] = asking
        return self._heads[id(head)]

    @property
    def max_tokens(self) -> int:
        """Maximum number of tokens of the hub."""
        return self.hub.max_tokens

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text as the hub counts them."""
        return self.hub.count_tokens(text)

    def prepare(self, media: Media) -> NDArray[Any]:
        """Preprocess one medium to an array (views, ...); thread-safe.

        Raises:
            MediaError: the medium has no content to encode.
        """
        config = self.configs.get(MODALITY_OF[type(media)])
        return self.hub.prepare(media) if config is None else prepare(media, config, self.hub)

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return features scaled by the temperature, averaged over the views of each of n media: float32 (n, d)."""
        if modality not in self.configs:
            return self.hub.features(modality, prepared)
        views = [view for medium in prepared for view in medium]
        vectors = self._towers.run(modality.value, views, on_device)
        return mean_of_views(scale_features(vectors, self.temperatures[modality]), prepared)

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed n prepared media of one modality: float32 (n, d), unit L2 norm."""
        if modality not in self.configs:
            return self.hub.encode(modality, prepared)
        return l2_normalize(self.features(modality, prepared))

    def locate(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Embed the parts of prepared media with the hub: float32 (views, h, w, d), unit L2 norm.

        Raises:
            UsageError: the modality is not one of `locatable`.
        """
        locating(self, modality)
        return locating(self.hub, modality).locate(modality, prepared)

    def _load(self, name: str, device: torch.device) -> nn.Module:
        """Load a bound tower."""
        from bindsearch.encoders.bound.networks import build_tower, load_trained
        from bindsearch.encoders.torch_runtime.tensor_files import map_tensors

        config = self.configs[Modality(name)]
        tower = build_tower(config, start_of(self.hub, config))
        load_trained(tower, map_tensors(tower_file(self.manifest, name)))
        check_not_replaced(self.manifest)  # the file may be that of another tower
        return tower.to(device).eval().requires_grad_(False)


def base_of(hub: Encoder) -> Encoder:
    """Return the hub itself; of a bound encoder the one that its towers were bound to."""
    return hub.hub if isinstance(hub, BoundEncoder) else hub


def start_of(hub: Encoder, config: TowerConfig) -> Any:
    """Return the hub's tower of pictures if a tower starts from it, else None.

    Raises:
        EncoderError: the hub gives no such tower.
    """
    if config.network != HUB:
        return None
    make = getattr(base_of(hub), "picture_tower", None)
    if make is None:
        raise EncoderError(f"the encoder {hub.name} has no tower of pictures to start from: choose another network")
    return make()


def read_configs(manifest: ModelManifest) -> dict[Modality, TowerConfig]:
    """Return the settings of the towers of a bound model.

    Raises:
        EncoderError: the manifest is damaged.
    """
    try:
        towers = manifest.architecture["towers"]
        configs = {Modality(modality): read_config(data) for modality, data in towers.items()}
        if not configs or {config.modality for config in configs.values()} != configs.keys():
            raise TypeError("its towers are not those of their modalities")
        for modality in configs:
            scale = manifest.temperatures.get(modality.value)
            if not (isinstance(scale, int | float) and 0 < scale < math.inf):
                raise TypeError(f"the temperature of {modality} is {scale!r}")
        _ = manifest.architecture["hub_digest"]
    except KeyError as error:
        raise damaged_manifest(manifest, f"{error} is missing") from error
    except (TypeError, ValueError, AttributeError, UsageError) as error:
        raise damaged_manifest(manifest, error) from error
    return configs


def read_hub(manifest: ModelManifest) -> tuple[str, dict[str, Any]]:
    """Return the name of the hub of a bound model, and its options.

    Raises:
        EncoderError: the manifest is damaged.
    """
    architecture = manifest.architecture if isinstance(manifest.architecture, dict) else {}
    name, options = architecture.get("hub"), architecture.get("hub_options")
    if not (isinstance(name, str) and isinstance(options, dict)) or name.startswith(BOUND_PREFIX):
        raise damaged_manifest(manifest, "it names no hub")
    return name, options


def prepare(media: Media, config: TowerConfig, hub: Encoder) -> NDArray[Any]:
    """Return the views of a medium for a tower; thread-safe.

    Returns:
        Array (views, ...): float32 (views, 1, side, side) of depth and thermal pictures, (views, 1, 128, 204) of sound,
        (views, 6, 2000) of motion; for HUB as the hub prepares pictures; for LABEL_NETWORKS (views, 64, 125) of sound,
        (views, 6, 128) of motion.

    Raises:
        MediaError: the medium has no content, or is of another modality.
    """
    if config.network == HUB:
        return hub.prepare(as_picture(media))
    if config.network in LABEL_NETWORKS:
        return _label_views(media, config)
    from bindsearch.encoders.imagebind.preprocessing import audio, depth, image, imu, parse_preprocessing

    options = parse_preprocessing({})
    match media:
        case DepthMap():
            return depth.prepare_depth(media, options, config.side_px)
        case ThermalPicture(values=values):
            return image.prepare_thermal(values, options, config.side_px)
        case Sound(samples=samples, sample_rate_hz=rate_hz):
            return audio.prepare_sound(samples, rate_hz, options)
        case Motion(samples=motion, sample_rate_hz=motion_rate_hz):
            return imu.prepare_motion(motion, motion_rate_hz, options)
    raise _unsuitable(media, config)


def _label_views(media: Media, config: TowerConfig) -> NDArray[Any]:
    """Return the views of sound or motion for a network of LABEL_NETWORKS."""
    from bindsearch.encoders.mini.imu import prepare_motion
    from bindsearch.encoders.preprocessing.sound_views import prepare_sound
    from bindsearch.encoders.torch_runtime.threads import single_threaded

    with single_threaded():
        match media:
            case Sound(samples=samples, sample_rate_hz=rate_hz):
                return prepare_sound(samples, rate_hz)
            case Motion(samples=motion, sample_rate_hz=motion_rate_hz):
                return prepare_motion(motion, motion_rate_hz)
    raise _unsuitable(media, config)


def _unsuitable(media: Media, config: TowerConfig) -> MediaError:
    return MediaError(f"a tower of {config.modality} cannot embed {type(media).__name__}")
