"""Media in the form that bound towers take: ImageBind's preprocessing, or the squares of the hub's pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bindsearch.encoders.base import Encoder
from bindsearch.encoders.bound.tower_config import HUB, TowerConfig
from bindsearch.encoders.preprocessing.grey_pictures import as_picture
from bindsearch.errors import MediaError
from bindsearch.media import DepthMap, Media, Motion, Sound, ThermalPicture

if TYPE_CHECKING:
    from numpy.typing import NDArray


def prepare(media: Media, config: TowerConfig, hub: Encoder) -> NDArray[Any]:
    """Return the views of a medium for a tower; thread-safe.

    Args:
        media: Medium of the tower's modality.
        config: Settings of the tower.
        hub: Encoder whose pictures a tower of the network HUB takes.

    Returns:
        Array (views, ...): float32 (views, 1, side, side) of depth and thermal pictures, (views, 1, 128, 204) of sound,
        (views, 6, 2000) of motion; for HUB as the hub prepares pictures.

    Raises:
        MediaError: the medium has no content, or is of another modality.
    """
    if config.network == HUB:
        return hub.prepare(as_picture(media))
    from bindsearch.encoders.imagebind.preprocessing import parse_preprocessing

    options = parse_preprocessing({})
    match media:
        case DepthMap():
            from bindsearch.encoders.imagebind.preprocessing.depth import prepare_depth

            return prepare_depth(media, options, config.side_px)
        case ThermalPicture(values=values):
            from bindsearch.encoders.imagebind.preprocessing.thermal import prepare_thermal

            return prepare_thermal(values, options, config.side_px)
        case Sound(samples=samples, sample_rate_hz=rate_hz):
            from bindsearch.encoders.imagebind.preprocessing.audio import prepare_sound

            return prepare_sound(samples, rate_hz, options)
        case Motion(samples=motion, sample_rate_hz=motion_rate_hz):
            from bindsearch.encoders.imagebind.preprocessing.imu import prepare_motion

            return prepare_motion(motion, motion_rate_hz, options)
    raise MediaError(f"a tower of {config.modality} cannot embed {type(media).__name__}")
