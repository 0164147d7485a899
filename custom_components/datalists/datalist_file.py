"""Read and write a datalist: a JSON file with the cases of a data set and paths relative to the file."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.files.atomic import absolute_path, atomic_path, writable_folder
from custom_components.labels import SYNTHETIC

DATALIST_NAME = "datalist.json"

# More than the size of a list of 100,000 cases.
MOST_DATALIST_BYTES = 2**25
# Longest path and file name, in bytes, on common file systems.
MOST_PATH_BYTES, MOST_NAME_BYTES = 4095, 255


def datalist_file(root: Path) -> Path | None:
    """The datalist of a data set: the path itself or a file in the folder; None when there is none."""
    path = root / DATALIST_NAME if root.is_dir() else root
    return path if path.name.lower().endswith(".json") and path.is_file() else None


def datalist_content(path: Path) -> Any:
    """Read a datalist.

    Raises:
        ValueError: when it cannot be read, is too large, or has an object with a duplicate key.
    """
    size = path.stat().st_size
    if size > MOST_DATALIST_BYTES:
        raise ValueError(
            f"Datalist {path} has {size:,} bytes. Expected at most {MOST_DATALIST_BYTES:,}: check or split the file."
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_object)
    except RecursionError:
        raise ValueError(
            f"Datalist {path} cannot be read as JSON: it is nested too deeply. Check it with a JSON editor."
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"Datalist {path} cannot be read as JSON: {error}. Check it with a JSON editor.") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        [(name, count)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"an object has the key {json.dumps(name)[:40]} {count} times")
    return made


def synthetic_mark(entry: Mapping[str, Any]) -> dict[str, bool]:
    """The mark of a datalist's entry that is a phantom; empty for a patient.

    Raises:
        ValueError: when ``synthetic`` is neither true nor false.

    Example:
        >>> synthetic_mark({"image": "a.nii.gz", "synthetic": True}), synthetic_mark({"image": "a.nii.gz"})
        ({'synthetic': True}, {})
    """
    mark = entry.get(SYNTHETIC) or False
    if not isinstance(mark, bool):
        raise ValueError(f"{SYNTHETIC} is {repr(mark)[:40]}. Expected true (a phantom) or false")
    return {SYNTHETIC: True} if mark else {}


def new_datalist(path: str | Path) -> Path:
    """Check, before any work, that a datalist can be written.

    Args:
        path: file that must not exist; its folder is created.

    Returns:
        Its absolute path.

    Raises:
        ValueError: when it exists, does not end with ``.json``, or its folder cannot be written into.
    """
    target = absolute_path(path)
    if target.suffix.lower() != ".json":
        raise ValueError(f"Output {target} is not a JSON file. Set --output, such as {DATALIST_NAME}.")
    if target.exists():
        raise ValueError(f"Datalist {target} exists and is not overwritten. Set --output to another file.")
    writable_folder(target.parent)
    return target


def write_datalist(cases: Sequence[Mapping[str, Any]], path: Path, path_keys: Sequence[str]) -> Path:
    """Write a datalist, atomically.

    Args:
        cases: one entry per case.
        path: path of the file.
        path_keys: keys of the entries that are paths.

    Returns:
        The file.
    """
    entries = [
        {key: listed_path(path.parent, value) if key in path_keys else value for key, value in case.items()}
        for case in cases
    ]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"cases": entries}, indent=1) + "\n", encoding="utf-8")
    return path


def listed_path(folder: Path, path: str | Path) -> str:
    """Path of a file as written in a datalist in ``folder``: relative if the file is in the folder, else absolute.

    Example:
        >>> listed_path(Path("/data"), "/data/images/1.nii"), listed_path(Path("/data"), "/scans/1.nii")
        ('images/1.nii', '/scans/1.nii')
    """
    file = Path(path).absolute()
    return (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()


def path_inside(folder: Path, name: Any) -> Path:
    """Absolute path of a file listed in a datalist in ``folder``.

    Raises:
        ValueError: when it is not a string, not a valid file name, or relative and outside the folder.
    """
    if not isinstance(name, str):
        raise ValueError(f"has the path {json.dumps(name)[:40]}. Expected one string")
    if not _can_name_a_file(folder, name):
        raise ValueError(
            f"path {json.dumps(name)[:40]} ({len(name):,} characters) is not a valid file name. Correct it"
        )
    path = Path(name)
    if not path.is_absolute() and ".." in path.parts:
        raise ValueError(
            f"path {name} is outside the datalist's folder. Use an absolute path, or move the files into the folder"
        )
    return folder / path


def _can_name_a_file(folder: Path, name: str) -> bool:
    try:
        path = os.fsencode(folder / name)
    except UnicodeEncodeError:
        return False
    parts = path.split(b"/")
    return b"\0" not in path and len(path) <= MOST_PATH_BYTES and max(map(len, parts)) <= MOST_NAME_BYTES
