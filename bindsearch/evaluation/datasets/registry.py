"""The data sets by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from bindsearch.arguments import did_you_mean
from bindsearch.errors import UsageError
from bindsearch.evaluation.datasets import csv_list, motion, pictures, scenes, sounds, thermal, web_clips
from bindsearch.evaluation.datasets.dataset import DataSet, Metric, Source
from bindsearch.evaluation.datasets.tables import LayoutError
from bindsearch.types import Modality

_FIVE_FOLDS = ("all", *(f"fold{number}" for number in range(1, 6)))
_TEN_FOLDS = ("all", *(f"fold{number}" for number in range(1, 11)))
_NOT_STATED = "not stated"

DATASETS: Mapping[str, Source] = MappingProxyType({
    "esc50": Source(sounds.read_esc50, Modality.AUDIO, Metric.TOP1, "environmental sounds, 50 classes, five folds",
        "meta/esc50.csv and audio/", "github.com/karolpiczak/ESC-50", "CC BY-NC 3.0", _FIVE_FOLDS),
    "esc10": Source(sounds.read_esc10, Modality.AUDIO, Metric.TOP1, "ten of the classes of ESC-50, as ESC-10",
        "meta/esc50.csv and audio/, or labels.csv with path, label and fold",
        "github.com/karolpiczak/ESC-50", "CC BY", _FIVE_FOLDS),
    "urbansound8k": Source(sounds.read_urbansound8k, Modality.AUDIO, Metric.TOP1,
        "sounds of a city, 10 classes, ten folds",
        "metadata/UrbanSound8K.csv and audio/fold1/ to audio/fold10/, or labels.csv with path, label and fold",
        "urbansounddataset.weebly.com", "CC BY-NC 3.0", _TEN_FOLDS),
    "clotho": Source(sounds.read_clotho, Modality.AUDIO, Metric.RECALL, "sounds with five captions each",
        "clotho_captions_<split>.csv and <split>/", "zenodo.org/records/4783391", "Tampere University, non-commercial",
        ("evaluation", "validation", "development")),
    "audiocaps": Source(sounds.read_audiocaps, Modality.AUDIO, Metric.RECALL, "clips of AudioSet with captions",
        "<split>.csv with youtube_id, start_time and caption, and the clips in any folder, named by youtube_id",
        "github.com/cdjkim/audiocaps", "MIT (captions); the clips are YouTube's", ("test", "val", "train")),
    "audioset": Source(web_clips.read_audioset, Modality.AUDIO, Metric.MAP,
        "sounds of YouTube, 527 classes, several a clip",
        "eval_segments.csv (train: balanced_train_segments.csv), class_labels_indices.csv, and the clips in any "
        "folder, named by YTID",
        "research.google.com/audioset", "CC BY 4.0 (labels); the clips are YouTube's", ("eval", "train")),
    "vggsound": Source(web_clips.read_vggsound, Modality.AUDIO, Metric.TOP1,
        "sounds of YouTube whose source is seen, 309 classes",
        "vggsound.csv (id, start, label, split, without header), and the clips in any folder, named by id",
        "robots.ox.ac.uk/~vgg/data/vggsound", "CC BY 4.0 (labels); the clips are YouTube's", ("test", "train")),
    "nyud": Source(scenes.read_nyud, Modality.DEPTH, Metric.TOP1, "depth of rooms, nine scenes and other",
        "SUNRGBD/kv1/NYUdata/ and test.txt (numbers of frames), or <split>/depth/ and <split>/scene/, "
        "or val/<scene>/", "cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html", _NOT_STATED, ("test", "train", "all")),
    "sunrgbd": Source(scenes.read_sunrgbd, Modality.DEPTH, Metric.TOP1, "depth of rooms, 19 scenes",
        "SUNRGBD/<sensor>/.../ with depth_bfx/, intrinsics.txt and scene.txt, and test.txt (a frame's folder a line)",
        "rgbd.cs.princeton.edu", _NOT_STATED, ("test", "train", "all")),
    "rgbd-pairs": Source(scenes.read_rgbd_pairs, Modality.DEPTH, Metric.RECALL,
        "depth maps that find photographs of the same scene",
        "labels.csv with path, image_path (or rgb_path) and label", "a list of one's own", "its own", ("all",)),
    "llvip": Source(thermal.read_llvip, Modality.THERMAL, Metric.TOP1,
        "crops of thermal pictures: person or background", "infrared/<split>/ and Annotations/",
        "bupt-ai-cz.github.io/LLVIP", "research only", ("test", "train")),
    "roadscene": Source(thermal.read_roadscene, Modality.THERMAL, Metric.RECALL,
        "thermal pictures that find the photograph taken with them",
        "cropinfrared/ and crop_LR_visible/, or labels.csv with path and visible_path",
        "github.com/hanna-xu/RoadScene", _NOT_STATED, ("all",)),
    "roadscene-person": Source(
        partial(thermal.read_labelled, name="roadscene-person", column="label", texts=thermal.PERSON_TEXTS),
        Modality.THERMAL, Metric.MEAN_CLASS,
        "thermal pictures with and without persons", "labels.csv with path and label (person or no_person)",
        "github.com/hanna-xu/RoadScene, and labels of one's own", _NOT_STATED, ("all",)),
    "roadscene-time": Source(
        partial(thermal.read_labelled, name="roadscene-time", column="time", texts=thermal.TIME_TEXTS),
        Modality.THERMAL, Metric.MEAN_CLASS,
        "thermal pictures by day and by night", "labels.csv with path and time (day or night)",
        "github.com/hanna-xu/RoadScene, and labels of one's own", _NOT_STATED, ("all",)),
    "uci-har": Source(motion.read_uci_har, Modality.IMU, Metric.TOP1,
        "motion of a phone at the waist, 6 activities, windows of 2.56 s",
        "activity_labels.txt and <split>/ with y_<split>.txt, subject_<split>.txt and Inertial Signals/, "
        "or windows.npz and labels.csv", "archive.ics.uci.edu/dataset/240", "CC BY 4.0", ("test", "train")),
    "uci-har-5s": Source(
        partial(motion.read_uci_har, name="uci-har-5s", joined=motion.JOINED), Modality.IMU, Metric.TOP1,
        "the same, three windows joined to 5.12 s", "as for uci-har",
        "archive.ics.uci.edu/dataset/240", "CC BY 4.0", ("test", "train")),
    "ego4d": Source(motion.read_ego4d, Modality.IMU, Metric.TOP1, "motion of a head-worn camera, by scenario",
        "clips.csv with video_uid, start_s, end_s, scenario and perhaps split, and imu/<video_uid>.csv",
        "ego4d-data.org", "Ego4D licence, signed by the user", ("all", "test", "val", "train")),
    "imagenet": Source(pictures.read_imagenet, Modality.IMAGE, Metric.TOP1, "photographs, a folder a class",
        "val/<WordNet id or class>/ and perhaps LOC_synset_mapping.txt, imagenet_class_index.json or classes.csv, "
        "or labels.csv with path, label and wnid", "image-net.org", "research only", ("val", "train")),
    "places365": Source(pictures.read_places365, Modality.IMAGE, Metric.TOP1, "photographs of 365 kinds of places",
        "places365_val.txt, categories_places365.txt and val_256/", "places2.csail.mit.edu", "research only", ("val",)),
    "flickr8k": Source(pictures.read_flickr8k, Modality.IMAGE, Metric.RECALL, "photographs with five captions each",
        "Flickr8k.token.txt, Flickr_8k.testImages.txt and Flicker8k_Dataset/, or captions.csv with path and caption",
        "Hodosh et al., JAIR 2013", "research only", ("test", "dev", "train", "all")),
    "coco": Source(pictures.read_coco, Modality.IMAGE, Metric.RECALL, "photographs with about five captions each",
        "annotations/captions_val2017.json and val2017/",
        "cocodataset.org", "CC BY 4.0 (captions); the photographs are Flickr's", ("val",)),
    "kinetics": Source(web_clips.read_kinetics, Modality.VIDEO, Metric.TOP1, "clips of YouTube, 400 to 700 actions",
        "val.csv with label, youtube_id, time_start and time_end, and the clips in any folder, named by youtube_id",
        "github.com/cvdfoundation/kinetics-dataset", "CC BY 4.0 (labels); the clips are YouTube's",
        ("val", "test", "train")),
    "msrvtt": Source(web_clips.read_msrvtt, Modality.VIDEO, Metric.RECALL,
        "MSR-VTT 1k-A, 1000 videos with a caption each",
        "MSRVTT_JSFUSION_test.csv, and the videos in any folder, named by video_id",
        "github.com/ArrowLuo/CLIP4Clip (the list)", "the videos are YouTube's", ("test",)),
    "sound-to-picture": Source(sounds.read_sound_to_picture, Modality.AUDIO, Metric.RECALL,
        "sounds that find photographs of what makes them",
        "audio_image_crosswalk.csv with audio_label, image_path and strength, and audio_<split>/labels.csv",
        "a list of one's own", "its own",
        ("esc10", "esc10-strong", "urbansound8k", "urbansound8k-strong", "animals", "animals-strong")),
    "csv": Source(csv_list.read_csv, Modality.IMAGE, Metric.TOP1, "a list of one's own, of any modality",
        "labels.csv, captions.csv or list.csv with path and label or caption; or the list itself",
        "one's own files", "its own"),
})  # fmt: skip
"""The data sets that `read_dataset` knows, by the name that `bindsearch eval` takes."""


def read_dataset(name: str, folder: Path, split: str | None = None) -> DataSet:
    """Read the list of a data set; its media are not opened.

    Args:
        name: Its name in DATASETS.
        folder: The folder with the layout that the entry describes.
        split: The part that is read; None: the one that figures are published for.

    Raises:
        UsageError: the name or the split is unknown, the folder has another layout, or none of the files is there.
    """
    source = DATASETS.get(name)
    if source is None:
        near = did_you_mean(name, tuple(DATASETS))
        raise UsageError(f"data set {name!r} is unknown: {near}choose from {', '.join(DATASETS)}")
    if split is not None and source.splits and split not in source.splits:
        raise UsageError(f"{name} has no split {split!r}: choose from {', '.join(source.splits)}")
    if not folder.exists():
        raise UsageError(f"{folder} does not exist: {name} expects a folder with {source.layout}")
    try:
        return source.read(folder, split or (source.splits or (csv_list.ALL,))[0])
    except LayoutError as error:
        raise UsageError(f"{folder}: {error}: {name} expects {source.layout}") from None
    except OSError as error:
        raise UsageError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from None
