"""COVID-19-20, the lung CT lesion segmentation challenge: COVID-19 with infection masks; no CAP.

As published: ``COVID-19-20_v2/Train/volume-covid19-A-0003_ct.nii.gz`` and ``..._seg.nii.gz``; ``Validation`` has only
``..._ct.nii.gz``. Whether a patient has several volumes could not be confirmed; names that differ only in what follows
the number (``A-0070_1``) count as one patient.

Known problems: the CTs come from the collection CT Images in COVID-19 of The Cancer Imaging Archive, which other sets
(COVIDx CT) contain too; the masks show any lesion of COVID-19, ground-glass or consolidation.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from custom_components.datalists.case_files import existing_root
from custom_components.datasets.conversion import Case, PublicSet, convert_cases, nifti_files, write_case
from custom_components.datasets.infection_masks import load_ct, with_infection
from custom_components.images.ct_reader import case_name
from custom_components.infection_size import CLASS_NAMES, COVID

SET = PublicSet(
    name="COVID-19-20",
    purpose="COVID-19 without CAP: infection masks",
    patients="199 (training)",
    labels="infection",
    licence="CC BY 4.0 (CT), none stated (masks)",
    size="not stated",
    page="https://covid-segmentation.grand-challenge.org/",
    citation="An et al. 2020, doi:10.7937/tcia.2020.gqry-nc81",
    command="convert_covid19_20 SOURCE TARGET",
)
VOLUME = re.compile(r"(volume-covid19-A-\d+)(.*?)_(ct|seg)")


def convert_covid19_20(source: str | Path, target: str | Path, without_masks: bool = False) -> Path:
    """Write the volumes in HU with their infection masks, and their datalist.

    Args:
        source: folder with ``Train`` and ``Validation``, at any depth.
        target: new or empty folder. It appears when the conversion is complete.
        without_masks: write volumes without mask too.

    Returns:
        The datalist for inference and ``segment_masks``. ``left_out.csv`` lists the skipped volumes.

    Raises:
        ValueError: when there are no such files, no volume can be used, or the target is not an empty folder.
    """
    root = existing_root(source)
    found: dict[str, dict[str, list[Path]]] = {}
    for path in nifti_files(root):
        if match := VOLUME.fullmatch(case_name(path)):
            found.setdefault(match[1] + match[2], {}).setdefault(match[3], []).append(path)
    if not any("ct" in files for files in found.values()):
        raise ValueError(
            f"Data set {root} has no volumes. Expected Train/volume-covid19-A-0003_ct.nii.gz, ...: unpack the archive "
            "and give the folder that contains them."
        )
    return convert_cases(root, target, found, partial(_convert, without_masks=without_masks))


def _convert(name: str, files: Mapping[str, list[Path]], folder: Path, without_masks: bool) -> Case:
    volumes, masks = files.get("ct", []), files.get("seg", [])
    if len(volumes) != 1 or len(masks) > 1:
        raise ValueError(f"Case {name}: {len(volumes)} volumes and {len(masks)} masks. Expected one of each.")
    if not masks and not without_masks:
        raise ValueError(f"Case {name}: there is no mask. Set --without_masks to write the volume alone.")
    image = load_ct(volumes[0])
    paths = write_case(folder, name, with_infection(image, masks, name), image.affine.numpy())
    patient = (VOLUME.fullmatch(f"{name}_ct") or [name, name])[1]
    return {"case_id": name, "patient_id": patient, **paths, "label": CLASS_NAMES[COVID]}
