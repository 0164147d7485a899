"""Match the files of a data set to its cases."""

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from custom_components.datalists.case_problems import shorten
from custom_components.dicom.series import holds_dicom
from custom_components.files.atomic import absolute_path
from custom_components.images.ct_reader import IMAGE_SUFFIXES, case_name

# Value of dataset_dir for the built-in synthetic data set.
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
    """Absolute path of a data set. ``~`` is the home folder, unless a file of that name exists.

    Raises:
        ValueError: when it is missing or does not exist.
    """
    if dataset_dir is None:
        raise ValueError(NO_DATA)
    root = Path(str(dataset_dir)).absolute()
    with suppress(OSError, RuntimeError):  # name too long, or user without home
        if root.exists():
            return root
        root = absolute_path(dataset_dir)
        if root.exists():
            return root
    raise ValueError(f"Data set {root} does not exist. Check dataset_dir.")


def images_in(folder: Path) -> list[Path]:
    """Images and DICOM folders in natural order; also JPEG files and folders named like images, for later checks."""
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
    """Map case names to files of a folder, and compare them with a list of cases.

    Args:
        folder: folder of the files; it may be missing.
        names: names of the listed cases.
        problems: list to which cases without a file, files without a case and duplicate names are added.
        listing: what lists the cases, for messages.
        entry: what a case has in the listing, with article.
        file: what a case has in the folder, with article.

    Returns:
        File path by case name.
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
