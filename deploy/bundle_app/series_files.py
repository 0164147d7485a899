import os
from collections.abc import Iterator
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from bundle_app.headers import is_uid, raw_uid, uid_or_substitute

TAGS = ["SeriesInstanceUID", "SOPInstanceUID"]


def link_series(study: Path, series_uid: str, target: Path) -> Path:
    """Link the images of one series into a new folder, for a reader that expects one folder per series.

    All files of the series are linked, including duplicates that the SDK's loader left out: the reader checks whether
    they form a volume. Folder and links have no names of the input, which could contain the patient's name.

    Args:
        study: folder with DICOM files of any series, at any depth.
        series_uid: SeriesInstanceUID as the images have it, valid or not.
        target: existing folder, where the links `<series_uid>/<SOPInstanceUID>.dcm` are created. An invalid
            series UID is replaced as in `headers.py`, an invalid or duplicate SOPInstanceUID by a number.

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
    """Files of a series, each with its SOPInstanceUID; other files are ignored."""
    folders = os.walk(study, followlinks=True)  # as the SDK's loader does
    for path in sorted(Path(folder, name) for folder, _, names in folders for name in names):
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
        except InvalidDicomError:
            continue
        if header.get("SeriesInstanceUID") == series_uid:
            yield path, raw_uid(header, "SOPInstanceUID")
