"""Scans that are published as numbered 8-bit images of their slices: read, ordered, checked."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from custom_components.datalists.case_problems import shorten
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg")
# A chest is 120 mm long or longer; slices are 10 mm apart or less.
LEAST_SLICES = 12
# Every n-th pixel of a slice is compared.
STEP = 4
# Distance of neighbouring slices / median of the four distances around it, or of all if that is larger. On 17 CTs in
# the lung window, all or every third slice: 2.1 or less in order, 5.0 or more if halves are swapped or names sorted as
# text.
MOST_JUMP = 3.5
# Share of the slices that are nearer to the next but one than to the next: below 0.01 in order, 0.37 or more shuffled.
MOST_FAR = 0.2


def numbered_files(folder: Path, case: str) -> dict[int, Path]:
    """Images of a scan by their number, in order; 2 comes before 10, and 0002 is 2.

    Args:
        folder: folder with ``0000.png`` or ``0.jpg``, ...; hidden files and other kinds of files are ignored.
        case: for messages.

    Raises:
        ValueError: when an image has no number in its name, or two have the same.
    """
    images = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    named = sorted(path.name for path in images if not re.fullmatch(r"\d+", path.stem))
    if named:
        raise ValueError(f"Case {case}: {shorten(named)} has no slice number. Expected names such as 0012.png.")
    found: dict[int, Path] = {}
    for path in sorted(images, key=lambda path: (int(path.stem), path.name)):
        if int(path.stem) in found:
            raise ValueError(f"Case {case}: {path.name} and {found[int(path.stem)].name} have the same slice number.")
        found[int(path.stem)] = path
    return found


def read_stack(files: Mapping[int, Path], order: Iterable[int], case: str) -> np.ndarray:
    """Intensities of the slices in the given order.

    Args:
        files: image of each slice by its number.
        order: numbers of the wanted slices.
        case: for messages.

    Returns:
        uint8, shape (slices, rows, columns); colour is reduced to luma.

    Raises:
        ValueError: when an image cannot be read, or the slices differ in size.
    """
    slices = [_grey(files[number], case) for number in order]
    sizes = {one.shape for one in slices}
    if len(sizes) > 1:
        shown = ", ".join(f"{columns} x {rows}" for rows, columns in sorted(sizes))
        raise ValueError(f"Case {case}: its slices have different sizes: {shown}.")
    return np.stack(slices) if slices else np.empty((0, 0, 0), np.uint8)


def distinct_slices(grey: np.ndarray) -> np.ndarray:
    """Indices of the slices that are not blank and not an exact repeat of an earlier slice.

    Args:
        grey: shape (slices, rows, columns).

    Example:
        >>> ramp = np.arange(6).reshape(1, 2, 3)
        >>> distinct_slices(np.concatenate([ramp * 0, ramp, ramp + 1, ramp])).tolist()
        [1, 2]
    """
    seen: set[bytes] = set()
    kept = []
    for k, one in enumerate(grey):
        content = one.tobytes()
        if np.ptp(one) > 0 and content not in seen:
            kept.append(k)
        seen.add(content)
    return np.array(kept, int)


def check_slices(grey: np.ndarray, case: str, remedy: str) -> None:
    """Check that there are enough slices for a chest, and that they are in order without a large gap.

    Args:
        grey: shape (slices, rows, columns), in order.
        case: for messages.
        remedy: what to do about a wrong order, a sentence.

    Raises:
        ValueError: when there are fewer than ``LEAST_SLICES``, or :func:`jumps` finds any.
    """
    if len(grey) < LEAST_SLICES:
        raise ValueError(f"Case {case}: {len(grey)} different slices. Expected {LEAST_SLICES} or more for a chest.")
    if places := jumps(grey):
        shown = shorten([f"{place - 1} and {place}" for place in places])
        raise ValueError(
            f"Case {case}: the slices {shown} (counted without blank and repeated ones) do not fit together: the order "
            f"is wrong, or slices are missing. {remedy}"
        )


def jumps(grey: np.ndarray) -> list[int]:
    """Slices that do not continue the one before.

    Args:
        grey: shape (slices, rows, columns); at least three slices.

    Returns:
        Slice indices k for which slices k - 1 and k differ far more than their neighbours, or, where slices are
        shuffled, for which slice k + 1 is nearer to k - 1 than slice k is.

    Example:
        >>> wave = np.sin(np.arange(64) / 9 + np.arange(20)[:, None] / 9)[:, None] * np.ones((20, 8, 1))
        >>> jumps(wave), jumps(np.roll(wave, 8, axis=0))
        ([], [8])
    """
    coarse = np.asarray(grey, np.float32)[:, ::STEP, ::STEP].reshape(len(grey), -1)
    coarse -= coarse.mean(axis=1, keepdims=True)
    coarse /= np.maximum(np.linalg.norm(coarse, axis=1, keepdims=True), 1e-6)
    next_one, next_but_one = (1 - (coarse[step:] * coarse[:-step]).sum(axis=1) for step in (1, 2))
    around = sliding_window_view(np.pad(next_one, 2, mode="edge"), 5)[:, [0, 1, 3, 4]]
    usual = np.maximum(np.median(around, axis=1), np.median(next_one))
    jump = next_one > MOST_JUMP * np.maximum(usual, 1e-4)
    far = next_but_one < next_one[:-1]
    if far.mean() > MOST_FAR:
        jump[:-1] |= far
    return (np.flatnonzero(jump) + 1).tolist()


def _grey(path: Path, case: str) -> np.ndarray:
    try:
        with Image.open(path, formats=["JPEG", "PNG"]) as image:
            return np.asarray(image.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"Case {case}: {path.name} is truncated or not an image: {error}.") from error
