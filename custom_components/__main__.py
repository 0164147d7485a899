"""Command line: ``python -m custom_components VERB --help``."""

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import fire
from custom_components import phantom
from custom_components.command_line import ended_with_a_message
from custom_components.data.build_datalist import build_datalist
from custom_components.data.check_datalist import check_datalist
from custom_components.data.covid20_slices import convert_covid20_slices
from custom_components.data.covid_ct_md import convert_covid_ct_md
from custom_components.data.ct_excerpts import convert_ct_excerpts
from custom_components.data.medseg import convert_jpg, convert_medseg
from custom_components.data.new_folder import new_folder
from custom_components.datasets.covid20_volumes import convert_covid20_volumes
from custom_components.datasets.lctsc import convert_lctsc
from custom_components.datasets.medseg_volumes import convert_medseg_volumes
from custom_components.datasets.plethora import convert_plethora
from custom_components.datasets.table import datasets
from custom_components.diagnosis.command import diagnose
from custom_components.reports.diagnosis_table import diagnosis_table
from custom_components.reports.score_table import score_table


def phantom_dicom(
    folder: str, seed: int = 0, shape: Sequence[int] = (128, 128, 48), spacing_mm: Sequence[float] = (2.8, 2.8, 6.0)
) -> Path:
    """Write one synthetic chest CT as a DICOM series.

    Args:
        folder: new or empty folder.
        seed: another seed gives another patient.
        shape: voxels along x, y, z.
        spacing_mm: voxel size along x, y, z.

    Returns:
        The folder.
    """
    volume = phantom.make_volume(seed, shape, spacing_mm)
    with new_folder(folder) as draft:
        phantom.write_dicom(volume, draft)
    return Path(folder)


VERBS = {
    "build_datalist": build_datalist,
    "check_datalist": check_datalist,
    "convert_covid20_slices": convert_covid20_slices,
    "convert_covid20_volumes": convert_covid20_volumes,
    "convert_covid_ct_md": convert_covid_ct_md,
    "convert_ct_excerpts": convert_ct_excerpts,
    "convert_jpg": convert_jpg,
    "convert_lctsc": convert_lctsc,
    "convert_medseg": convert_medseg,
    "convert_medseg_volumes": convert_medseg_volumes,
    "convert_plethora": convert_plethora,
    "datasets": datasets,
    "diagnose": diagnose,
    "diagnosis_table": diagnosis_table,
    "phantom_dicom": phantom_dicom,
    "phantom_scans": phantom.write_scan_dataset,
    "phantom_slices": phantom.write_slice_dataset,
    "phantom_volumes": phantom.write_volume_dataset,
    "score_table": score_table,
}


def verbs(words: Sequence[str]) -> dict[str, Callable]:
    """The verbs; those of studies, whose libraries no other needs, unless another one is asked for.

    Args:
        words: of the command line.
    """
    if words[:1] and words[0] in VERBS:
        return VERBS
    from custom_components.study.command import study
    from custom_components.study.joined_scores import joined_scores

    return {**VERBS, "joined_scores": joined_scores, "study": study}


def main() -> None:
    """Run one verb. What a user can mend ends it with a message and status 1; COVID_TRACEBACK=1 shows where."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with ended_with_a_message():
        fire.Fire(verbs(sys.argv[1:]), name="python -m custom_components")


if __name__ == "__main__":
    main()
