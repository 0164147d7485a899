import os
from collections.abc import Iterator
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from bundle_app.headers import is_uid, raw_uid, uid_or_substitute

TAGS = ["SeriesInstanceUID", "SOPInstanceUID"]


def link_series(study: Path, series_uid: str, target: Path) -> Path:
    """Gather the images of one series as links in a folder of their own, for a reader that takes a series' folder.

    All files count that name the series, also those that a loader had left out as doubled: whether they make a volume
    is for the reader to say. Neither folder nor links carry a name of the input, which could be the patient's.

    Args:
        study: folder with DICOM files of any series, at any depth.
        series_uid: SeriesInstanceUID as the images have it, valid or not.
        target: existing folder that gets `<series_uid>/<SOPInstanceUID>.dcm`; the substitute of a series UID that
            is no UID, and a number for an image whose own is none or is there twice.

    Returns:
        The folder of the links.
    """
    folder = target / uid_or_substitute("SeriesInstanceUID", series_uid)
    folder.mkdir()
    for number, (path, image_uid) in enumerate(images_of(study, series_uid)):
        link = folder / f"{image_uid}.dcm"
        if not is_uid(image_uid) or link.is_symlink():
            link = folder / f"{number}.dcm"
        link.symlink_to(path.resolve())
    return folder


def images_of(study: Path, series_uid: str) -> Iterator[tuple[Path, str]]:
    """Files of a series with their SOPInstanceUID, the folder's other files passed over."""
    folders = os.walk(study, followlinks=True)  # as the SDK's loader does
    for path in sorted(Path(folder, name) for folder, _, names in folders for name in names):
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
        except InvalidDicomError:
            continue
        if header.get("SeriesInstanceUID") == series_uid:
            yield path, raw_uid(header, "SOPInstanceUID")
