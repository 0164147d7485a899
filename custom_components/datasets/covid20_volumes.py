"""The 20 COVID-19 volumes of Zenodo 3757476, with masks of lungs and infection.

As published, each archive unpacked into a folder with its name:

- ``COVID-19-CT-Seg_20cases``: ``coronacases_001`` to ``_010.nii.gz`` in HU; ten ``radiopaedia_10_85902_1.nii.gz`` ...,
  8-bit intensities of the window -1250 to 250 HU. Another published copy has ``ct_scans`` with longer names, such as
  ``coronacases_org_001.nii`` and ``radiopaedia_org_covid-19-pneumonia-10_85902_1-dcm.nii``.
- ``Lung_Mask`` (1 left, 2 right), ``Infection_Mask``, ``Lung_and_Infection_Mask`` (1 left lung, 2 right lung,
  3 infection), under the short names.

Known problems: the headers of the radiopaedia images contradict those of their masks, although the voxels match (users
flip the images to make both agree in world space); some masks have fractional values; two patients have two scans each,
and patients from Radiopaedia may also be among MedSeg's nine volumes.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from custom_components.datalists.case_files import existing_root
from custom_components.datasets.conversion import Case, PublicSet, convert_cases, nifti_files, write_case
from custom_components.datasets.covid20_slices import covid_entry, with_folds
from custom_components.datasets.placing import HALF, place_masks
from custom_components.images.ct_reader import CTReader, LabelReader, case_name
from monai.data import MetaTensor
from monai.transforms import LoadImage
from nibabel.affines import voxel_sizes

SET = PublicSet(
    name="COVID-19 CT Lung and Infection Segmentation Dataset",
    purpose="lungs and infection (VB-Net), infection of either kind (lesions)",
    patients="18 (20 scans)",
    labels="left and right lung, infection",
    licence="CC BY-NC-SA 4.0",
    size="1.1 GB",
    page="https://zenodo.org/records/3757476",
    citation="Ma et al. 2020, doi:10.5281/zenodo.3757476; Med Phys 2021, doi:10.1002/mp.14676",
    command="convert_covid20_volumes SOURCE TARGET",
)
# Folder names in lower case.
IMAGES = ("covid-19-ct-seg_20cases", "ct_scans")
LUNG, INFECTION, BOTH = "lung_mask", "infection_mask", "lung_and_infection_mask"
INFECTION_OF_BOTH = 3
CORONACASES = re.compile(r"(?:coronacases_)?(?:org_)?(?:case)?(\d{3})")
RADIOPAEDIA = re.compile(r"radiopaedia_(?:org_covid-19-pneumonia-)?((\d+)_\d+_\d+)(?:-dcm)?")
# HU of the intensities 0 and 255 in the radiopaedia images, according to the authors.
WINDOW_HU, MAX_INTENSITY = (-1250.0, 250.0), 255.0


def convert_covid20_volumes(source: str | Path, target: str | Path, num_folds: int = 5) -> Path:
    """Write the volumes in HU with masks of lungs and infection, and their datalist.

    Args:
        source: folder with the unpacked archives, at any depth.
        target: new or empty folder. It appears when the conversion is complete.
        num_folds: folds of cross-validation, at most one per patient.

    Returns:
        The datalist, as written by ``convert_covid20_slices``; ``left_out.csv`` lists skipped scans.

    Raises:
        ValueError: when there are no such files, no scan can be used, or the folder is not empty.
    """
    root = existing_root(source)
    found: dict[str, dict[str, Path]] = {}
    for path in nifti_files(root):
        folders = [part.lower() for part in path.relative_to(root).parts[:-1]]
        kind = next((name for name in (*IMAGES, LUNG, INFECTION, BOTH) if name in folders), None)
        name = _case(path)
        if kind and name:
            found.setdefault(name, {})["image" if kind in IMAGES else kind] = path
    if not any("image" in files for files in found.values()):
        raise ValueError(
            f"Data set {root} has no volumes. Expected COVID-19-CT-Seg_20cases/ with coronacases_001.nii.gz, ..., and "
            "Lung_Mask/ and Infection_Mask/ next to it: unpack each archive into a folder with its name."
        )
    return convert_cases(root, target, found, _convert, finish=partial(with_folds, num_folds=num_folds))


def _case(path: Path) -> str:
    """Case name of a file; empty when it does not belong to this set."""
    name = case_name(path)
    if match := CORONACASES.fullmatch(name):
        return f"coronacases_{match[1]}"
    match = RADIOPAEDIA.fullmatch(name)
    return f"radiopaedia_{match[1]}" if match else ""


def _convert(name: str, files: Mapping[str, Path], folder: Path) -> Case:
    kinds = [LUNG, INFECTION] if LUNG in files and INFECTION in files else [BOTH]
    missing = [kind for kind in ("image", *kinds) if kind not in files]
    if missing:
        raise ValueError(f"Case {name}: there is no file in {' and '.join(missing)}. Download all archives of the set.")
    image = _image(name, files["image"])
    read = LoadImage(reader=LabelReader(), ensure_channel_first=True)
    masks = {kind: read(files[kind]) for kind in kinds}
    placed = place_masks(image, masks, kinds[0], name)
    infection = placed.masks[BOTH] > INFECTION_OF_BOTH - HALF if BOTH in kinds else placed.masks[INFECTION] > HALF
    lung = (placed.masks[kinds[0]] > HALF) | infection
    affine = _affine(image, masks[kinds[0]]) if placed.as_stored else image.affine.numpy()
    paths = write_case(folder, name, {"image": image[0].numpy(), "lung": lung, "infection": infection}, affine)
    return covid_entry(name, _patient(name), paths, float(infection.sum() / lung.sum()))


def _image(name: str, path: Path) -> MetaTensor:
    """CT in HU, (1, X, Y, Z)."""
    if not name.startswith("radiopaedia"):
        return LoadImage(reader=CTReader(), ensure_channel_first=True)(path)
    grey = LoadImage(reader=LabelReader(), ensure_channel_first=True)(path)
    low, high = float(grey.min()), float(grey.max())
    if low < 0 or high > MAX_INTENSITY:
        raise ValueError(
            f"Case {name}: values are {low:g} to {high:g}. Expected intensities of 0 to {MAX_INTENSITY:g}, as "
            "published: download the file again."
        )
    return WINDOW_HU[0] + grey / MAX_INTENSITY * (WINDOW_HU[1] - WINDOW_HU[0])


def _affine(image: MetaTensor, mask: MetaTensor) -> np.ndarray:
    """The mask's orientation with the image's voxel size: where the headers differ, users found the mask's right."""
    affine = mask.affine.numpy().copy()
    affine[:3, :3] *= voxel_sizes(image.affine.numpy()) / voxel_sizes(affine)
    return affine


def _patient(name: str) -> str:
    """Patient of a scan: scans of one Radiopaedia case have the same patient."""
    match = RADIOPAEDIA.fullmatch(name)
    return f"radiopaedia_{match[2]}" if match else name
