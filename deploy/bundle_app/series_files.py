import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from bundle_app.headers import uid_or_substitute

TAGS = ["SeriesInstanceUID"]


def series_case(study: Path, series_uid: str) -> dict[str, Any]:
    """One series as a case of the bundle, without names of the input, which could contain the patient's name.

    All files of the series are included, also duplicates that the SDK's loader left out: the bundle's reader checks
    whether they form a volume.

    Args:
        study: folder with DICOM files of any series, at any depth.
        series_uid: SeriesInstanceUID as the images have it, valid or not.

    Returns:
        `case_id`, the series UID or its substitute; and `image`, that name and the files, as `CTReader` takes them.
    """
    case = uid_or_substitute("SeriesInstanceUID", series_uid)
    return {"case_id": case, "image": [case, *map(str, files_of(study, series_uid))]}


def files_of(study: Path, series_uid: str) -> Iterator[Path]:
    """Files of a series; other files are ignored."""
    folders = os.walk(study, followlinks=True)  # as the SDK's loader does
    for path in sorted(Path(folder, name) for folder, _, names in folders for name in names):
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
        except InvalidDicomError:
            continue
        if header.get("SeriesInstanceUID") == series_uid:
            yield path.resolve()


def as_expression(value: object) -> str:
    """A value in MONAI's config language, in which `#` and `@` of a path would have a meaning."""
    return "$" + ascii(value).replace("#", r"\x23").replace("@", r"\x40")
