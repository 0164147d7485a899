"""Which files of a data set belong to which case."""

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from custom_components.datalists.case_problems import shorten
from custom_components.dicom.series import holds_dicom
from custom_components.images.ct_reader import IMAGE_SUFFIXES, case_name

# Word that stands for the synthetic data set of the package.
PHANTOM = "phantom"

IMAGE_FOLDER = "images"

NO_DATA = (
    "dataset_dir is missing. Set --dataset_dir /path/to/data, or --dataset_dir phantom for the built-in synthetic data."
)


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key that reads digits as numbers.

    Example:
        >>> sorted(["slice10", "slice9", "slice010"], key=natural_key)
        ['slice9', 'slice010', 'slice10']
    """
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def existing_root(dataset_dir: str | Path | None) -> Path:
    """Absolute path of a data set. ``~`` is the home folder, unless something of that name is there.

    Raises:
        ValueError: when it was not given, or nothing is there.
    """
    if dataset_dir is None:
        raise ValueError(NO_DATA)
    root = Path(str(dataset_dir)).absolute()
    with suppress(OSError, RuntimeError):  # a name too long, a user without home
        if root.exists():
            return root
        root = Path(str(dataset_dir)).expanduser().absolute()
        if root.exists():
            return root
    raise ValueError(f"Data set {root} does not exist. Check dataset_dir.")


def images_in(folder: Path) -> list[Path]:
    """Images and DICOM folders in natural order; JPEG and folders named as images too, which are then reported."""
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    found = [
        path
        for path in visible
        if path.name.lower().endswith((*IMAGE_SUFFIXES, ".jpg", ".jpeg")) or (path.is_dir() and holds_dicom(path))
    ]
    return sorted(found, key=lambda path: natural_key(path.name))


def files_by_case(
    folder: Path,
    names: Sequence[str],
    problems: list[str],
    listing: str = f"{IMAGE_FOLDER}/",
    entry: str = "an image",
    file: str = "a mask",
) -> dict[str, Path]:
    """Files of a folder by the name of their case, compared with a listing of the cases.

    Args:
        folder: where the files lie; it may be missing.
        names: cases that are listed.
        problems: gets cases without file, files without case, and names with two files.
        listing: what lists the cases, for the messages.
        entry: what a case has there, with its article.
        file: what a case has in the folder, with its article.

    Returns:
        Path of the file by case name.
    """
    found = images_in(folder) if folder.is_dir() else []
    counts, listed = Counter(case_name(path) for path in found), set(names)
    lists = {
        f"{listing} without {file} in {folder.name}/": [name for name in names if name not in counts],
        f"{folder.name}/ without {entry} in {listing}": [name for name in counts if name not in listed],
        f"{folder.name}/ with more than one file of the same name": [name for name in counts if counts[name] > 1],
    }
    problems += [f"{len(names)} in {what}: {shorten(names)}" for what, names in lists.items() if names]
    return {case_name(path): path for path in found}
