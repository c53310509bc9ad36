"""The kinds of files that are read: names, extensions, what is taken, and the module that reads them.

What `sniff` tells, what a name promises, the messages on other files and docs/formats.md follow from these tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bindsearch.types import Modality

PILLOW, FFMPEG, LIBSNDFILE = "PIL", "av", "soundfile"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file."""

    name: str  # as `sniff` or `document_kind` returns it
    title: str  # for people
    names: str  # extensions that promise it, with spaces between: other programs do not use them
    taken: str  # parts of a file that are indexed
    module: str = ""  # that reads it, of an extra or not (`bindsearch.environment.EXTRAS`); empty: Python's or NumPy
    shared: str = ""  # usual extensions that other programs use too, so that the content alone decides
    sound_names: str = ""  # extensions of a container of videos that promise a sound
    is_animation: bool = False  # it may be a moving picture

    @property
    def extensions(self) -> tuple[str, ...]:
        """Extensions that promise the kind, with their dots."""
        return tuple(self.names.split())


_RAW = (
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mrw .nef .nrw .orf .pef .raf .rw2 .rwl .sr2 .srf .srw .x3f"
)
PICTURE_KINDS = (
    Kind("jpeg", "JPEG, MPO", ".jpg .jpeg .jpe .jfif .mpo", "the picture, of an MPO the first one", PILLOW),
    Kind("png", "PNG, APNG", ".png .apng", "the picture; several frames are a video", PILLOW, is_animation=True),
    Kind("webp", "WebP", ".webp", "the picture; several frames are a video", PILLOW, is_animation=True),
    Kind("gif", "GIF", ".gif", "the picture; several frames are a video", PILLOW, is_animation=True),
    Kind("tiff", "TIFF, BigTIFF", ".tif .tiff", "each page, without reduced copies and masks", PILLOW),
    Kind("bmp", "BMP", ".bmp", "the picture", PILLOW),
    Kind("heif", "HEIC, HEIF", ".heic .heif .hif", "the main picture", "pi_heif"),
    Kind("avif", "AVIF", ".avif", "the main picture", PILLOW),
    Kind("raw", "camera raw", _RAW, "the largest preview that the camera stored", "rawpy"),
    Kind("jp2", "JPEG 2000", ".jp2 .j2k .j2c .jpc .jpf .jpx", "the picture", PILLOW),
    Kind("psd", "Photoshop", ".psd", "the flattened picture", PILLOW),
    Kind("pnm", "PNM", ".ppm .pgm .pbm .pnm", "the picture", PILLOW),
)
SOUND_KINDS = (
    Kind("wav", "WAV (RIFF, RIFX, RF64, BW64)", ".wav .wave .bwf .rf64", "the sound", LIBSNDFILE),
    Kind("w64", "Wave64", ".w64", "the sound", LIBSNDFILE),
    Kind("flac", "FLAC", ".flac", "the sound", LIBSNDFILE),
    Kind("ogg", "Ogg (Vorbis, Opus, FLAC, Speex)", ".ogg .oga .opus .spx", "all recordings in it", FFMPEG),
    Kind("mp3", "MP3, MP2", ".mp3 .mp2 .mpga", "the sound", FFMPEG),
    Kind("aac", "AAC (ADTS)", ".aac", "the sound", FFMPEG),
    Kind("m4a", "MPEG-4 audio (AAC, ALAC)", ".m4a .m4b .m4r", "the sound", FFMPEG),
    Kind("aiff", "AIFF, AIFC", ".aif .aiff .aifc", "the sound", LIBSNDFILE),
    Kind("caf", "Core Audio", ".caf", "the sound", LIBSNDFILE),
    Kind("au", "AU", ".au .snd", "the sound", LIBSNDFILE),
    Kind("amr", "AMR", ".amr .awb", "the sound", FFMPEG),
    Kind("ape", "Monkey's Audio", ".ape", "the sound", FFMPEG),
    Kind("wv", "WavPack", ".wv", "the sound", FFMPEG),
    Kind("tta", "True Audio", ".tta", "the sound", FFMPEG),
    Kind("mpc", "Musepack SV7", "", "the sound", FFMPEG, shared=".mpc"),
    Kind("mpc8", "Musepack SV8", "", "the sound", FFMPEG, shared=".mpc"),
    Kind("dsf", "DSD", ".dsf", "the sound", FFMPEG),
    Kind("voc", "Creative Voice", "", "the sound", LIBSNDFILE, shared=".voc"),
    Kind("sph", "NIST Sphere", "", "the sound", LIBSNDFILE, shared=".sph"),
    Kind("ac3", "AC-3", ".ac3", "the sound", FFMPEG),
    Kind("eac3", "E-AC-3", ".eac3", "the sound", FFMPEG),
    Kind("dts", "DTS", "", "the sound", FFMPEG, shared=".dts"),
)
_TRACKS = "frames and sound track"
VIDEO_KINDS = (
    Kind(
        "mp4",
        "MP4, QuickTime, 3GP",
        ".mp4 .m4v .mov .qt .3gp .3gpp .3g2 .f4v",
        f"{_TRACKS}; motion of GoPro cameras",
        FFMPEG,
        sound_names=".m4a .m4b .m4r .3ga",
    ),
    Kind("matroska", "Matroska, WebM", ".mkv .webm", _TRACKS, FFMPEG, sound_names=".mka .weba"),
    Kind("avi", "AVI", ".avi .divx", _TRACKS, FFMPEG),
    Kind("ogv", "Ogg with pictures", ".ogv .ogm", _TRACKS, FFMPEG, sound_names=".oga"),
    Kind("mpegts", "MPEG transport stream, AVCHD", ".mts .m2ts", _TRACKS, FFMPEG, shared=".ts"),
    Kind("mpeg", "MPEG program stream, DVD", ".mpg .mpeg .mpe .vob", _TRACKS, FFMPEG, shared=".mod"),
    Kind("mpegvideo", "MPEG video without sound", ".m2v .m1v", "frames", FFMPEG),
    Kind("asf", "Windows Media", ".wmv .asf", _TRACKS, FFMPEG, sound_names=".wma"),
    Kind("flv", "Flash video", ".flv", _TRACKS, FFMPEG),
    Kind("rm", "RealMedia", "", _TRACKS, FFMPEG, shared=".rm .rmvb"),
    Kind("mxf", "MXF", ".mxf", _TRACKS, FFMPEG),
    Kind("dv", "DV", "", _TRACKS, FFMPEG, shared=".dv"),
    Kind("mjpeg", "Motion JPEG", ".mjpeg .mjpg", "frames", FFMPEG),
)
TEXT_KINDS = (
    Kind("text", "plain text, Markdown", ".txt .md .markdown", "the text"),
    Kind("pdf", "PDF", ".pdf", "the text, and the pages as pictures", "pypdfium2"),
    Kind("docx", "Word", ".docx", "the text with footnotes"),
    Kind("odt", "OpenDocument text", ".odt", "the text"),
    Kind("pptx", "PowerPoint", ".pptx", "the text of the slides"),
    Kind("odp", "OpenDocument presentation", ".odp", "the text of the slides"),
    Kind("epub", "EPUB", ".epub", "the text of the chapters"),
    Kind("html", "HTML", ".html .htm .xhtml", "the text that a reader sees"),
    Kind("rtf", "RTF", ".rtf", "the text", "striprtf"),
    Kind(
        "subtitles",
        "SubRip, WebVTT, ASS, SSA",
        ".srt .vtt .ass .ssa",
        "the lines: with their times if they are beside a recording, else without",
    ),
    Kind("ipynb", "Jupyter notebook (.ipynb)", "", "the cells without outputs, if a rule asks for it"),
)
ARRAY_KINDS = (
    Kind(
        "table",
        "table of text",
        ".csv .tsv .dat .gcsv .csv.gz .tsv.gz",
        "motion by layout or columns; temperatures by name; a list of files",
    ),
    Kind("parquet", "Parquet", ".parquet", "motion by its columns; a list of files", "pyarrow"),
    Kind("npy", "NumPy array", ".npy", "depth, thermal or motion by name, shape or sidecar"),
    Kind("npz", "NumPy arrays", ".npz", "depth or motion by the names of the file and the arrays"),
    Kind("pfm", "PFM", ".pfm", "depth by name or sidecar"),
    Kind("exr", "OpenEXR", ".exr", "depth by name or sidecar"),
)
ARCHIVE_KINDS = (
    Kind(
        "tar",
        "tar",
        ".tar .tar.gz .tgz .tar.bz2 .tbz2 .tar.xz .txz .tar.zst .tzst",
        "each file in it; samples of a WebDataset",
    ),
    Kind("zip", "ZIP", ".zip", "each file in it"),
)

PICTURES = frozenset(kind.name for kind in PICTURE_KINDS)
ANIMATIONS = frozenset(kind.name for kind in PICTURE_KINDS if kind.is_animation)
SOUNDS = frozenset(kind.name for kind in SOUND_KINDS)
VIDEOS = frozenset(kind.name for kind in VIDEO_KINDS)


def _extensions(kinds: Iterable[Kind]) -> tuple[str, ...]:
    return tuple(extension for kind in kinds for extension in kind.extensions)


def extensions_of(name: str) -> tuple[str, ...]:
    """Return the extensions that promise a kind, by its name."""
    return _KINDS[name].extensions


_ALL_KINDS = (*PICTURE_KINDS, *SOUND_KINDS, *VIDEO_KINDS, *TEXT_KINDS, *ARRAY_KINDS, *ARCHIVE_KINDS)
_KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _ALL_KINDS})
SOUNDS_IN_VIDEOS = frozenset(extension for kind in VIDEO_KINDS for extension in kind.sound_names.split())
"""Extensions of sounds in containers of videos."""

VIDEO_EXTENSIONS = frozenset(_extensions(VIDEO_KINDS))
SOUND_EXTENSIONS = SOUNDS_IN_VIDEOS.union(_extensions(SOUND_KINDS))
RAW_EXTENSIONS = frozenset(extensions_of("raw"))
"""Extensions of cameras' raw images; most are TIFF files that differ from other images by their name only."""

EXTENSIONS: Mapping[str, Modality | None] = MappingProxyType(
    dict.fromkeys(_extensions(PICTURE_KINDS), Modality.IMAGE)
    | dict.fromkeys(VIDEO_EXTENSIONS, Modality.VIDEO)
    | dict.fromkeys(SOUND_EXTENSIONS, Modality.AUDIO)
    | dict.fromkeys(_extensions(TEXT_KINDS), Modality.TEXT)
    | dict.fromkeys(_extensions(ARRAY_KINDS), None)
)
"""Modality of an extension if the content is not recognised; None: a table or array, which may be anything."""


def one_of(kinds: Iterable[str]) -> str:
    """Return the names of kinds in words: "avi, flv or mp4"."""
    *others, last = sorted(kinds)
    return f"{', '.join(others)} or {last}"
