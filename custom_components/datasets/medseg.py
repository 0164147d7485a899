import csv
from pathlib import Path

import numpy as np
from custom_components.datalists.case_files import natural_key
from custom_components.datasets.conversion import load_volume
from custom_components.files.atomic import new_folder
from custom_components.images.ct_reader import PNG_AFFINE, CTReader, LabelReader, case_name
from custom_components.images.geometry import mask_on_image
from custom_components.images.writers import save_volume
from custom_components.labels import IGNORE_LABEL, LESION_CLASSES
from PIL import Image
from tqdm import tqdm

AIR_HU, FAT_HU = -1000.0, -100.0
# Published masks are stored as floats; a larger distance from an integer is not a rounding error.
ROUNDING = 1e-3

PUBLISHED_VALUES = (*range(len(LESION_CLASSES) + 1), IGNORE_LABEL)


def pseudo_hu(grey: np.ndarray, air_grey: float, fat_grey: float) -> np.ndarray:
    """Map intensities linearly to HU, as MedSeg did for the JPEG slices of SIRM.

    Air becomes -1000 HU and subcutaneous fat -100 HU, whatever the window of the JPEG.

    Args:
        grey: intensities, any shape.
        air_grey: intensity of the air around the patient.
        fat_grey: intensity of subcutaneous fat.

    Returns:
        float32 HU of the same shape.

    Raises:
        ValueError: when air is not darker than fat.

    Example:
        >>> pseudo_hu(np.array([58, 135, 212]), air_grey=58, fat_grey=212).tolist()
        [-1000.0, -550.0, -100.0]
    """
    if not -np.inf < air_grey < fat_grey < np.inf:
        raise ValueError(
            f"air_grey is {air_grey} and fat_grey {fat_grey}. Expected air darker than fat: "
            "measure both in the image, outside the patient and under the skin."
        )
    slope = (FAT_HU - AIR_HU) / (fat_grey - air_grey)
    return (AIR_HU + slope * (np.asarray(grey, dtype=np.float64) - air_grey)).astype(np.float32)


def convert_medseg(images: str | Path, masks: str | Path, output_dir: str | Path) -> Path:
    """Split MedSeg's published stacks into NIfTI slices, ``images/NNN.nii.gz`` and ``masks/NNN.nii.gz``.

    Slices keep their HU and their position in the stack.

    Args:
        images: stack of slices in HU (X, Y, N), ``tr_im.nii.gz``.
        masks: stack of masks (X, Y, N), ``tr_mask.nii.gz``: 0 background, 1 ground-glass, 2 consolidation,
            3 pleural effusion, 255 ignore.
        output_dir: new or empty folder. It appears when the conversion is complete.

    Returns:
        The folder.

    Raises:
        ValueError: when the stacks differ in size, a mask holds another value, or the folder is not empty.
    """
    images, masks = Path(str(images)), Path(str(masks))
    with new_folder(output_dir) as folder:
        stack, stack_mask = load_volume(images, CTReader()), load_volume(masks, LabelReader())
        if stack.numel() != stack_mask.numel():
            raise ValueError(
                f"{images.name} has (X, Y, slices) {tuple(stack.shape[1:])} and {masks.name} "
                f"{tuple(stack_mask.shape[1:])}. Expected a mask for each slice: use two files of the same release."
            )
        stack_hu, affine = stack[0].numpy(), stack.affine.numpy()
        labels = published_labels(mask_on_image(stack_mask, stack, masks.name, case_name(images))[0].numpy(), masks)
        for k in tqdm(range(labels.shape[2]), desc="slices", disable=None):
            place = affine.copy()
            place[:3, 3] += k * affine[:3, 2]
            save_volume(stack_hu[..., k : k + 1], place, folder / "images" / f"{k:03d}.nii.gz")
            save_volume(labels[..., k : k + 1], place, folder / "masks" / f"{k:03d}.nii.gz")
    return Path(str(output_dir))


def convert_jpg(
    images_dir: str | Path,
    output_dir: str | Path,
    air_grey: float | None = None,
    fat_grey: float | None = None,
    table: str | Path | None = None,
) -> Path:
    """Convert JPEG slices to NIfTI slices in pseudo-HU: ``images/NAME.nii.gz``.

    A JPEG's window is unknown, so intensities of two known tissues are needed: for all images, or per image in a table.

    Args:
        images_dir: folder of .jpg or .jpeg files; colour is reduced to luma.
        output_dir: new or empty folder. It appears when the conversion is complete.
        air_grey: intensity of the air around the patient, 0..255.
        fat_grey: intensity of subcutaneous fat, 0..255.
        table: CSV with the columns name, air_grey, fat_grey, instead of the two numbers.

    Returns:
        The folder.

    Raises:
        ValueError: when there are no JPEGs, intensities are missing or reversed, or the folder is not empty.
    """
    paths = _jpg_files(Path(str(images_dir)))
    intensities = _intensities(paths, air_grey, fat_grey, table)
    with new_folder(output_dir) as folder:
        for path in tqdm(paths, desc="images", disable=None):
            hu = _pseudo_hu_of(path, *intensities[path.stem])
            save_volume(hu, PNG_AFFINE, folder / "images" / f"{path.stem}.nii.gz")
    return Path(str(output_dir))


def published_labels(stack: np.ndarray, path: Path) -> np.ndarray:
    """Convert a published mask of floats to integer labels.

    Args:
        stack: shape (X, Y, slices).
        path: path of the mask, for messages.

    Returns:
        uint8, 0 to 3 or 255.

    Raises:
        ValueError: when a value is none of these.
    """
    rounded = np.rint(stack)
    wrong = (np.abs(stack - rounded) > ROUNDING) | ~np.isin(rounded, PUBLISHED_VALUES)
    if wrong.any():
        x, y, k = (int(index[0]) for index in np.nonzero(wrong))
        raise ValueError(
            f"{path.name} has {stack[x, y, k]:g} in slice {k}, {int(wrong.sum()):,} such pixels in all. "
            f"Expected {', '.join(map(str, PUBLISHED_VALUES))}. Check that it is the mask file."
        )
    return rounded.astype(np.uint8)


def _jpg_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder. Give the folder of the JPEG images.")
    found = (path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg") and path.name[0] != ".")
    paths = sorted(found, key=lambda path: natural_key(path.name))
    if not paths:
        raise ValueError(f"{folder} has no .jpg files. Give the folder of the JPEG images.")
    stems = {path.stem for path in paths}
    if len(stems) < len(paths):
        raise ValueError(f"{folder} has {len(paths)} images but {len(stems)} names. Rename those that share a name.")
    return paths


def _intensities(
    paths: list[Path], air_grey: float | None, fat_grey: float | None, table: str | Path | None
) -> dict[str, tuple[float, float]]:
    if table is not None:
        known = _table(Path(str(table)))
    elif air_grey is not None and fat_grey is not None:
        known = {path.stem: (float(air_grey), float(fat_grey)) for path in paths}
    else:
        raise ValueError("air_grey and fat_grey are missing. Set both, or give a table with them.")
    missing = [path.name for path in paths if path.stem not in known]
    if missing:
        raise ValueError(f"{len(missing)} images are not in {table}: {', '.join(missing[:5])}. Add a row for each.")
    for path in paths:
        try:
            pseudo_hu(np.zeros(1), *known[path.stem])
        except ValueError as error:
            raise ValueError(f"Image {path.name}: {error}") from error
    return known


def _table(path: Path) -> dict[str, tuple[float, float]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        return {Path(row["name"]).stem: (float(row["air_grey"]), float(row["fat_grey"])) for row in rows}
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(
            f"Table {path} cannot be read: {error!r}. Expected CSV with the columns name, air_grey, fat_grey."
        ) from error


def _pseudo_hu_of(path: Path, air_grey: float, fat_grey: float) -> np.ndarray:
    try:
        with Image.open(path, formats=["JPEG"]) as image:
            grey = np.asarray(image.convert("L"))
    except OSError as error:
        raise ValueError(f"Image {path.name} is truncated or not a JPEG: {error}. Download it again.") from error
    return pseudo_hu(grey.T[..., None], air_grey, fat_grey)
