"""MosMedData: chest CTs by severity, CT-0 (no findings) to CT-4, with infection masks of 50 scans; no CAP.

As published: ``studies/CT-1/study_0255.nii.gz`` (also ``.nii``), ``masks/study_0255_mask.nii.gz``, at any depth.

Known problems: slices 8 mm apart; the classes are grades of findings typical of COVID-19, without the result of an
RT-PCR test; CT-0 has no findings, so these scans are listed as ``normal``, and only when asked for; the masks show
ground-glass and consolidation together and were drawn for 50 scans of CT-1.
"""

import re
from pathlib import Path

from custom_components.datalists.case_files import existing_root
from custom_components.datasets.conversion import Case, PublicSet, convert_cases, nifti_files, write_case
from custom_components.datasets.diagnoses import normals_left_out
from custom_components.datasets.infection_masks import load_ct, with_infection
from custom_components.images.ct_reader import case_name
from custom_components.infection_size import CLASS_NAMES, COVID, NORMAL

SET = PublicSet(
    name="MosMedData",
    purpose="COVID-19 without CAP: infection masks, pre-training",
    patients="1110",
    labels="grade of findings; infection of 50",
    licence="CC BY-NC-ND 3.0",
    size="not stated",
    page="https://mosmed.ai/",
    citation="Morozov et al. 2020, doi:10.1101/2020.05.20.20100362",
    command="convert_mosmed SOURCE TARGET",
)
STUDY = re.compile(r"(study_\d+)(_mask)?")
GRADE = re.compile(r"CT-?([0-4])", re.IGNORECASE)

Source = tuple[str, list[Path], list[Path]]


def convert_mosmed(source: str | Path, target: str | Path, masks_only: bool = False, normals: bool = False) -> Path:
    """Write the scans in HU with their infection masks, if published, and their datalist.

    Args:
        source: folder with ``studies`` and ``masks``, at any depth.
        target: new or empty folder. It appears when the conversion is complete.
        masks_only: write only scans with an infection mask.
        normals: write CT-0 too, with the label ``normal``.

    Returns:
        The datalist for inference and ``segment_masks``; each case has its ``grade``. ``left_out.csv`` lists skipped
        scans.

    Raises:
        ValueError: when there are no such files, no scan can be used, or the target is not an empty folder.
    """
    root = existing_root(source)
    sources: dict[str, Source] = {}
    for path in nifti_files(root):
        match = STUDY.fullmatch(case_name(path))
        if match:
            grade, scans, masks = sources.get(match[1], ("", [], []))
            found = next((one[1] for part in reversed(path.parts) if (one := GRADE.fullmatch(part))), "")
            (masks if match[2] else scans).append(path)
            sources[match[1]] = (grade or ("" if match[2] else found), scans, masks)
    if not any(scans for _, scans, _ in sources.values()):
        raise ValueError(
            f"Data set {root} has no scans. Expected studies/CT-1/study_0255.nii.gz, ..., and masks/: unpack the "
            "archive and give the folder that contains them."
        )
    labels = {name: NORMAL if grade == "0" else CLASS_NAMES[COVID] for name, (grade, _, _) in sources.items()}
    left_out = normals_left_out(labels, normals)
    if masks_only:
        left_out |= {name: "There is no infection mask." for name, (_, _, masks) in sources.items() if not masks}
    return convert_cases(root, target, sources, _convert, left_out)


def _convert(name: str, source: Source, folder: Path) -> Case:
    grade, scans, masks = source
    if len(scans) != 1 or len(masks) > 1 or not grade:
        found = f"{len(scans)} scans, {len(masks)} masks and the grade {grade or 'unknown'}"
        raise ValueError(f"Case {name}: there are {found}. Expected one scan in CT-0 to CT-4, and at most one mask.")
    image = load_ct(scans[0])
    paths = write_case(folder, name, with_infection(image, masks, name), image.affine.numpy())
    label = NORMAL if grade == "0" else CLASS_NAMES[COVID]
    return {"case_id": name, "patient_id": name, **paths, "label": label, "grade": f"CT-{grade}"}
