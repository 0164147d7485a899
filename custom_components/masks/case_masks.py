"""Masks of one scan: lungs and infection on its own grid, a thumbnail, and the numbers of the case."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from custom_components._version import __version__
from custom_components.diagnosis.case_folder import REPORT, SCAN
from custom_components.diagnosis.kept_results import KeptResults
from custom_components.diagnosis.pipeline import Diagnosis, read_image
from custom_components.diagnosis.scan_files import volume_path
from custom_components.diagnosis.scan_run import check_free_space
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.dicom.series import check_dicom_series
from custom_components.files.report_files import write_json, write_png
from custom_components.images.ct_reader import NOTES, ImageHeader
from custom_components.images.geometry import mask_mismatch
from custom_components.masks.suspicious import suspicious_masks
from custom_components.pictures.contact_sheet import draw_thumbnail
from custom_components.reports.display import Display
from custom_components.transforms.infection_ratio import infection_ratio
from monai.data import MetaTensor

THUMBNAIL = "thumbnail.png"
# Names of the masks in a datalist, and of their files.
FILES = {"lung": "lungs", "infection": "infection"}


@dataclass(frozen=True)
class CaseMasks:
    """What is known of a case with masks.

    Args:
        case_id: name of the case.
        lung_ml: volume of both lungs.
        ratio: infection volume / lung volume.
        why: reasons to look at the masks first.
        lung_source: the method in words.
        infection_source: the method in words.
        image: the scan relative to the given file or folder: the folder of its series if that is deeper.
    """

    case_id: str
    lung_ml: float
    ratio: float
    why: tuple[str, ...]
    lung_source: str
    infection_source: str
    image: str = "."

    @classmethod
    def read(cls, folder: Path) -> "CaseMasks":
        """Read the case of a finished folder.

        Raises:
            ValueError: naming the case, when files of it were removed.
        """
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        known = {key: report[key] for key in cls.__dataclass_fields__}
        case = cls(**{**known, "why": tuple(known["why"])})
        missing = [path.name for path in (*case.paths(folder).values(), folder / THUMBNAIL) if not path.is_file()]
        if missing:
            raise ValueError(
                f"Case {case.case_id}: {' and '.join(missing)} was removed from {folder}. Remove this folder and run "
                "the same command again."
            )
        return case

    def paths(self, folder: Path) -> dict[str, Path]:
        """The masks in the folder of the case, by their names in a datalist."""
        return {key: volume_path(folder, self.case_id, name) for key, name in FILES.items()}


def masks_folder(output_dir: str | Path) -> Path:
    """Folder of the cases' folders in the output folder."""
    return Path(output_dir).absolute() / "masks"


def segment_case(source: ScanSource, folder: Path, diagnosis: Diagnosis) -> CaseMasks:
    """Segment a scan and write its files.

    Args:
        source: the scan.
        folder: unfinished folder of the case; results of an earlier run in it are reused.
        diagnosis: the networks.

    Returns:
        The case, as in its ``report.json``.

    Raises:
        ValueError: naming the case, when it is not a readable chest CT, a training could not read it, no plausible
            lungs are found, infection is unknown, the disk has too little space, or files could not be written.
    """
    image = read_image(source)
    place = _place(source, image)
    results = KeptResults(folder, source.case_id, image.affine.numpy(), source.clock, source.sha256)
    check_free_space(folder, source.case_id, math.prod(image.shape), diagnosis.volumes(), has_objects=False)
    masks, _, infected = diagnosis.segment(source, image, results.stage)
    if (infection := infected.infection) is None:
        raise ValueError(f"Case {source.case_id}: {' '.join(masks.not_done)} Draw its masks, or leave it out.")
    affine = image.affine.numpy()
    ratio = infection_ratio(infection, masks.lungs, source.case_id)
    notes = [note.removesuffix(". Check it.") for note in (image.meta.get(NOTES), *masks.warnings) if note]
    found = CaseMasks(
        case_id=source.case_id,
        lung_ml=float(np.count_nonzero(masks.lungs)) * Display(affine).voxel_ml,
        ratio=ratio,
        why=suspicious_masks(masks.lungs, ratio, affine, notes),
        lung_source=masks.lung_source,
        infection_source=str(infected.infection_source),
        image=place,
    )
    _write_files(results, image, masks.lungs, infection, found)
    return found


def _place(source: ScanSource, image: MetaTensor) -> str:
    """Folder of the series relative to the given path; an error if a training would read another volume there."""
    if source.series is None:
        return "."
    folders = {file.parent for file in source.series.files}
    folder = folders.pop() if len(folders) == 1 else source.path
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    try:  # without file names, which may be the patient's
        series = check_dicom_series(files, source.case_id, [f"file {number}" for number in range(len(files))])
    except ValueError as error:
        raise ValueError(f"{error} A training reads one folder of one series: move its files to a folder.") from error
    x, y, z = image.shape[1:]
    if mask_mismatch(ImageHeader(series.shape, series.affine), ImageHeader((x, y, z), image.affine.numpy())):
        raise ValueError(
            f"Case {source.case_id}: its folder has more images than the selected chest series. Move the files of this "
            "series to a folder of its own."
        )
    return folder.relative_to(source.path).as_posix()


def _write_files(
    results: KeptResults, image: MetaTensor, lungs: np.ndarray, infection: np.ndarray, found: CaseMasks
) -> None:
    def thumbnail() -> list[Path]:
        display = Display(image.affine.numpy())
        hu, lung, infected = (display.turned(array) for array in (np.asarray(image[0]), lungs, infection))
        write_png(results.folder / THUMBNAIL, draw_thumbnail(hu, lung, infected, display.spacing_mm))
        return [results.folder / THUMBNAIL]

    def report() -> list[Path]:
        content: Mapping[str, Any] = {**asdict(found), SCAN: results.scan_sha256, "version": __version__}
        write_json(results.folder / REPORT, content)
        return [results.folder / REPORT]

    results.files("thumbnail", {}, ("masks", "infection"), thumbnail)
    results.files("report", {"why": found.why, "image": found.image}, ("masks", "infection"), report)
    results.finish()
