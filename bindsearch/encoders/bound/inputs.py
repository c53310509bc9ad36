"""Media in the form that bound towers take.

ImageBind's preprocessing, the squares of the hub's pictures, or the views of sound and motion of `mini`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bindsearch.encoders.base import Encoder
from bindsearch.encoders.bound.tower_config import HUB, LABEL_NETWORKS, TowerConfig
from bindsearch.encoders.preprocessing.crops import as_picture
from bindsearch.errors import MediaError
from bindsearch.media import DepthMap, Media, Motion, Sound, ThermalPicture

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    from bindsearch.encoders.imagebind.preprocessing import parse_preprocessing

    options = parse_preprocessing({})
    match media:
        case DepthMap():
            from bindsearch.encoders.imagebind.preprocessing.depth import prepare_depth

            return prepare_depth(media, options, config.side_px)
        case ThermalPicture(values=values):
            from bindsearch.encoders.imagebind.preprocessing.image import prepare_thermal

            return prepare_thermal(values, options, config.side_px)
        case Sound(samples=samples, sample_rate_hz=rate_hz):
            from bindsearch.encoders.imagebind.preprocessing.audio import prepare_sound

            return prepare_sound(samples, rate_hz, options)
        case Motion(samples=motion, sample_rate_hz=motion_rate_hz):
            from bindsearch.encoders.imagebind.preprocessing.imu import prepare_motion

            return prepare_motion(motion, motion_rate_hz, options)
    raise _unsuitable(media, config)


def _label_views(media: Media, config: TowerConfig) -> NDArray[Any]:
    """Return the views of sound or motion for a network of LABEL_NETWORKS."""
    from bindsearch.encoders.torch_runtime.threads import single_threaded

    match media:
        case Sound(samples=samples, sample_rate_hz=rate_hz):
            from bindsearch.encoders.preprocessing.sound_views import prepare_sound

            with single_threaded():
                return prepare_sound(samples, rate_hz)
        case Motion(samples=motion, sample_rate_hz=motion_rate_hz):
            from bindsearch.encoders.mini.imu import prepare_motion

            with single_threaded():
                return prepare_motion(motion, motion_rate_hz)
    raise _unsuitable(media, config)


def _unsuitable(media: Media, config: TowerConfig) -> MediaError:
    return MediaError(f"a tower of {config.modality} cannot embed {type(media).__name__}")
