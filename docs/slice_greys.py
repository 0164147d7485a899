"""How bright lungs, soft tissue, ground-glass and consolidation are in each slice of a data set of grey pictures.

    python docs/slice_greys.py SLICES

SLICES has images/ and masks/ as PNG. Prints for each slice the peaks of its histogram inside the body, below and above
half of the range, and the median grey of both lesions; then mean and standard deviation over slices, and d', by how
many standard deviations the medians of consolidation lie above those of ground-glass: of the greys as they are, and
where each slice's peaks are put at 0 and 1. A normalisation of slices is worth trying where the second d' is larger.
"""

from pathlib import Path

import fire
import numpy as np
import torch
from custom_components.transforms.lungs.body_mask import body_mask
from PIL import Image
from scipy import ndimage

EDGE = 3  # pixels of skin and partial volume
HALF = 120  # between lungs and soft tissue in an 8-bit picture
WHITE = 250  # from here on greys were cut off


def greys(image: np.ndarray, mask: np.ndarray) -> tuple[float, float, float, float]:
    """Peaks of lungs and soft tissue, medians of ground-glass and consolidation (NaN where a slice has none)."""
    inside = np.asarray(body_mask(torch.from_numpy(image / 255)[None, ..., None].float()))[0, ..., 0] != 0
    counts = np.bincount(image[ndimage.binary_erosion(inside, iterations=EDGE)], minlength=256)
    smooth = ndimage.gaussian_filter1d(counts.astype(float), 3)
    lesions = [float(np.median(image[mask == label])) if (mask == label).any() else np.nan for label in (1, 2)]
    return float(smooth[:HALF].argmax()), float(HALF + smooth[HALF:WHITE].argmax()), lesions[0], lesions[1]


def d_prime(low: np.ndarray, high: np.ndarray) -> float:
    """Distance of two groups' means in their mean standard deviation; NaN are left out."""
    return float((np.nanmean(high) - np.nanmean(low)) / np.sqrt((np.nanvar(high) + np.nanvar(low)) / 2))


def main(slices: str) -> None:
    """Print them."""
    rows = []
    print("slice, lungs, soft tissue, ground-glass, consolidation")  # noqa: T201
    for path in sorted(Path(slices, "images").glob("*.png")):
        image, mask = (
            np.asarray(Image.open(Path(slices, kind, path.name)).convert("L")) for kind in ("images", "masks")
        )
        rows.append(greys(image, mask))
        print(path.stem, *(f"{grey:.0f}" for grey in rows[-1]))  # noqa: T201
    lungs, soft, glass, solid = np.array(rows).T
    for name, values in (("lungs", lungs), ("soft tissue", soft), ("ground-glass", glass), ("consolidation", solid)):
        print(f"{name}: {np.nanmean(values):.0f}, standard deviation {np.nanstd(values):.0f}")  # noqa: T201
    relative = [(values - lungs) / (soft - lungs) for values in (glass, solid)]
    print(f"d': {d_prime(glass, solid):.2f}; between the peaks of each slice: {d_prime(*relative):.2f}")  # noqa: T201


if __name__ == "__main__":
    fire.Fire(main)
