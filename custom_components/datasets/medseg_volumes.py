"""MedSeg's nine axial volumes, with the three lesion classes.

As published: ``rp_im/1.nii.gz`` to ``9.nii.gz`` (630 x 630, pseudo-HU), ``rp_msk/`` (0 background, 1 ground-glass,
2 consolidation, 3 pleural effusion; floats) and ``rp_lung_msk/``, of the same names. 373 of the 829 slices have a
lesion; the radiologists found none in the others.

Known problems: image and masks match voxel by voxel, but their headers may differ, so users copy the image's header
into the masks; the patients come from Radiopaedia, as does half of Zenodo 3757476, so a patient may be in both sets.
"""

from collections.abc import Mapping
from pathlib import Path

from custom_components.datalists.case_files import existing_root
from custom_components.datasets.conversion import Case, PublicSet, convert_cases, nifti_files, write_case
from custom_components.datasets.medseg import published_labels
from custom_components.datasets.placing import HALF, place_masks
from custom_components.images.ct_reader import CTReader, LabelReader, case_name
from monai.transforms import LoadImage

SET = PublicSet(
    name="MedSeg, nine volumes",
    purpose="lesion classes",
    patients="9",
    labels="ground-glass, consolidation, pleural effusion; lungs",
    licence="CC0",
    size="310 MB",
    page="https://medicalsegmentation.com/covid19/",
    citation="MedSeg, Jenssen and Sakinis 2021, doi:10.6084/m9.figshare.13521509",
    command="convert_medseg_volumes SOURCE TARGET",
)
FOLDERS = {"rp_im": "image", "rp_msk": "label", "rp_lung_msk": "lung"}
LABEL_SETS = {value: [value] for value in range(4)}


def convert_medseg_volumes(source: str | Path, target: str | Path) -> Path:
    """Write the volumes with lesion classes and lungs, and their datalist.

    Args:
        source: folder with ``rp_im``, ``rp_msk`` and ``rp_lung_msk``, at any depth.
        target: new or empty folder. It appears when the conversion is complete.

    Returns:
        The datalist for covid_seg_bundle; ``left_out.csv`` lists skipped scans.

    Raises:
        ValueError: when there are no such files, no scan can be used, or the folder is not empty.
    """
    root = existing_root(source)
    found: dict[str, dict[str, Path]] = {}
    for path in nifti_files(root):
        for part in path.relative_to(root).parts[:-1]:
            if part in FOLDERS:
                found.setdefault(f"rp_{case_name(path)}", {})[FOLDERS[part]] = path
    if not found:
        raise ValueError(f"Data set {root} has no volumes. Expected rp_im/1.nii.gz, ..., rp_msk/ and rp_lung_msk/.")
    return convert_cases(root, target, found, _convert)


def _convert(name: str, files: Mapping[str, Path], folder: Path) -> Case:
    missing = [part for part, key in FOLDERS.items() if key not in files]
    if missing:
        raise ValueError(f"Case {name}: there is no file in {' and '.join(missing)}. Download all three archives.")
    image = LoadImage(reader=CTReader(), ensure_channel_first=True)(files["image"])
    read = LoadImage(reader=LabelReader(), ensure_channel_first=True)
    masks = {key: read(files[key]) for key in ("label", "lung")}
    placed = place_masks(image, masks, "lung", name).masks
    labels = published_labels(placed["label"], files["label"])
    arrays = {"image": image[0].numpy(), "label": labels, "lung": placed["lung"] > HALF}
    paths = write_case(folder, name, arrays, image.affine.numpy())
    return {"case_id": name, "group": name, **paths, "label_sets": LABEL_SETS, "lung_values": []}
