"""NSCLC-Radiomics with PleThora's masks of effusion and thoracic cavity, as partial labels.

As published: ``NSCLC-Radiomics/LUNG1-001/<study>/<series>/1-001.dcm`` (CT, for most patients also RTSTRUCT and SEG);
``Effusions/LUNG1-001/LUNG1-001_effusion_first_reviewer.nii.gz``, ``_second_``, for 16 patients ``_third_``;
``Thoracic_Cavities/LUNG1-001/LUNG1-001_thor_cav_primary_reviewer.nii.gz`` (1 and 2 by side), for 86 ``_secondary_``.

Known problems: the masks are stored in another orientation (y towards Anterior) than the DICOM series; some have
fractional values; slices are missing in LUNG1-014, 021, 085, 095, 194 and 246, which are skipped because of their
uneven spacing.
"""

import re
from pathlib import Path

import numpy as np
from custom_components.datalists.case_files import existing_root
from custom_components.datasets.conversion import Case, PublicSet, convert_cases, nifti_files, write_case
from custom_components.datasets.ct_excerpts import EFFUSION, EFFUSION_SETS, LUNG, OUTSIDE, UNSURE
from custom_components.datasets.placing import HALF, place_masks
from custom_components.datasets.tcia import CollectionSeries, read_ct, series_by_patient
from custom_components.images.ct_reader import LabelReader
from custom_components.labels import IGNORE_LABEL
from custom_components.transforms.lungs.lung_mask import LUNG_HU
from monai.transforms import LoadImage

SET = PublicSet(
    name="NSCLC-Radiomics with PleThora",
    purpose="pleural effusion",
    patients="78 with effusion, of 422",
    labels="effusion (2 or 3 reviewers), thoracic cavity",
    licence="CC BY-NC 3.0 (CT), CC BY 3.0 (masks)",
    size="34 GB (CT alone)",
    page="https://wiki.cancerimagingarchive.net/pages/viewpage.action?pageId=68551327",
    citation="Aerts et al. 2019, doi:10.7937/K9/TCIA.2015.PF0M9REI; Kiser et al. 2020, doi:10.1002/mp.14424",
    command="convert_plethora SOURCE TARGET",
)
PATIENT = re.compile(r"LUNG1-\d{3}")
MASK = re.compile(rf"({PATIENT.pattern})_(effusion|thor_cav)_(\w+)_reviewer\.nii(\.gz)?")
# Always skipped, with the reason.
LEFT_OUT = {"LUNG1-013": "Weak label: 18 ml with a median of -102 HU, which is not fluid."}

Sources = tuple[list[CollectionSeries], list[Path], list[Path]]


def convert_plethora(source: str | Path, target: str | Path) -> Path:
    """Write the CTs with effusion in HU, partial labels from the reviewers' masks, and their datalist.

    Args:
        source: folder with the CT series, ``Effusions`` and ``Thoracic_Cavities``, at any depth.
        target: new or empty folder. It appears when the conversion is complete.

    Returns:
        The datalist, as written by ``convert_ct_excerpts``; ``left_out.csv`` lists skipped patients, including those
        without an effusion mask.

    Raises:
        ValueError: when there are no such files, no scan can be used, or the folder is not empty.
    """
    root = existing_root(source)
    series = series_by_patient(root, PATIENT)
    masks: dict[str, dict[str, list[Path]]] = {}
    for path in nifti_files(root):
        if match := MASK.fullmatch(path.name):
            masks.setdefault(match[1], {}).setdefault(match[2], []).append(path)
    if not series or not masks:
        found = f"{len(series)} patients with DICOM series and {len(masks)} with masks"
        raise ValueError(
            f"Data set {root} has {found}. Expected both: NSCLC-Radiomics/LUNG1-001/..., and PleThora's Effusions/ and "
            "Thoracic_Cavities/ unpacked next to it."
        )
    sources = {
        name: (series.get(name, []), own.get("thor_cav", []), own.get("effusion", []))
        for name, own in sorted({**{key: {} for key in series}, **masks}.items())
    }
    return convert_cases(root, target, sources, _convert, LEFT_OUT)


def _convert(name: str, files: Sources, folder: Path) -> Case:
    series, cavities, effusions = files
    if not cavities or not effusions:
        what = "effusion" if cavities else "the thoracic cavity"
        raise ValueError(f"Case {name}: the mask of {what} is missing.")
    image = read_ct(series, name)
    read = LoadImage(reader=LabelReader(), ensure_channel_first=True)
    masks = {path.name: read(path) for path in (*cavities, *effusions)}
    placed = {key: mask > HALF for key, mask in place_masks(image, masks, cavities[0].name, name).masks.items()}
    cavity = np.any([placed[path.name] for path in cavities], axis=0)
    drawn = [placed[path.name] for path in effusions]
    hu = image[0].numpy()
    # Aerated or not, the rest of the cavity may be anything but effusion; where reviewers disagree, nothing is known.
    labels = np.where(cavity, np.where(hu < LUNG_HU, LUNG, UNSURE), OUTSIDE).astype(np.uint8)
    labels[np.any(drawn, axis=0)] = IGNORE_LABEL
    labels[np.all(drawn, axis=0)] = EFFUSION
    if not (labels == EFFUSION).any():
        raise ValueError(f"Case {name}: the reviewers do not agree on any voxel of effusion.")
    paths = write_case(folder, name, {"image": hu, "label": labels}, image.affine.numpy())
    return {"case_id": name, "group": name, **paths, "label_sets": EFFUSION_SETS, "lung_values": [LUNG]}
