"""Names of uploaded files: checked, and used only to tell folders and kinds of files apart."""

import re

from custom_components.images.nifti import NIFTI_SUFFIXES
from custom_components.serve.limits import RefusedError

MOST_CHARACTERS, MOST_PARTS, MOST_BYTES = 1000, 30, 255
ZIP = ".zip"
# Files that operating systems add to folders and zip files.
ADDED = ("__macosx", "thumbs.db", "desktop.ini")
BAD_NAME = "A file has a name that is not allowed ({}). Nothing was kept. Rename it, or send the folder without it."

_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def safe_parts(path: str) -> tuple[str, ...]:
    r"""Split a relative path with ``/`` and check it.

    Args:
        path: as sent by the browser or stored in a zip file.

    Returns:
        Folders and file name.

    Raises:
        RefusedError: when the path is absolute, leads upwards, has a drive letter, a backslash or control characters,
            or is too long.

    Example:
        >>> safe_parts("study/axial/1.dcm")
        ('study', 'axial', '1.dcm')
        >>> safe_parts("../1.dcm")
        Traceback (most recent call last):
        custom_components.serve.limits.RefusedError: A file has a name that is not allowed (a path that leads
            upwards). Nothing was kept. Rename it, or send the folder without it.
    """
    parts = tuple(path.split("/"))
    problems = {
        "a control character": _CONTROL.search(path),
        "a backslash": "\\" in path,
        "an absolute path": path.startswith("/"),
        "a drive letter": _DRIVE.match(path),
        "a path that leads upwards": ".." in parts,
        "an empty or dotted folder": {"", "."} & {*parts},
        "too long": len(path) > MOST_CHARACTERS or len(parts) > MOST_PARTS or _longest(parts) > MOST_BYTES,
    }
    for problem, is_there in problems.items():
        if is_there:
            raise RefusedError(400, BAD_NAME.format(problem))
    return parts


def is_left_out(parts: tuple[str, ...]) -> bool:
    """Whether a file is hidden or was added by an operating system.

    Example:
        >>> is_left_out(("study", ".DS_Store")), is_left_out(("__MACOSX", "1.dcm")), is_left_out(("study", "1.dcm"))
        (True, True, False)
    """
    return any(part.startswith(".") or part.lower() in ADDED for part in parts)


def nifti_suffix(name: str) -> str:
    """Suffix of a NIfTI file in lower case; empty for other files.

    Example:
        >>> nifti_suffix("a.NII.GZ"), nifti_suffix("a.nii"), nifti_suffix("a.dcm")
        ('.nii.gz', '.nii', '')
    """
    return next((suffix for suffix in NIFTI_SUFFIXES if name.lower().endswith(suffix)), "")


def is_zip(name: str) -> bool:
    """Whether a file is named as a zip file."""
    return name.lower().endswith(ZIP)


def _longest(parts: tuple[str, ...]) -> int:
    return max(len(part.encode("utf-8", "surrogatepass")) for part in parts)
