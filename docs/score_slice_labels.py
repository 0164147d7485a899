"""How well masks tell the slices that radiologists of COVID-CT-MD marked as infected: AUC and a figure.

python docs/score_slice_labels.py DATA RESULTS [--mask infection] [--values "[1, 2]"] [--figure PNG] [--legend TEXT]
    [--from_feet]

DATA holds, for each patient, a DICOM folder and `<patient>_slices.csv` (slice_index_sorted_by_SliceLocation and
infected); RESULTS is the output folder of `diagnose`, or of covid_seg_bundle's inference (then `--mask seg`).
`--values` are the labels that count; any but 0 by default. The data set does not say at which end index 0 lies. It is
read from the head, the largest SliceLocation: so read, the marked slices are those on which disease is to be seen.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import fire
import nibabel
import numpy as np
from custom_components.dicom.series import check_dicom_series
from custom_components.files.atomic import atomic_path
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from nibabel.affines import voxel_sizes
from pydicom import dcmread
from sklearn.metrics import roc_auc_score


@dataclass(frozen=True)
class SliceScores:
    """A patient's slices in the order of the labels: marked or not, and the area of the mask in cm2."""

    patient: str
    marked: np.ndarray
    area_cm2: np.ndarray
    location_mm: np.ndarray
    lungs_ml: tuple[float, ...]  # left and right; nothing where they were not segmented

    @property
    def auc(self) -> float:
        """Of the area, for telling marked slices from the others."""
        return float(roc_auc_score(self.marked, self.area_cm2))

    def __str__(self) -> str:
        found = self.area_cm2 > 0
        lungs = "; left lung {:.0f} ml, right lung {:.0f} ml".format(*self.lungs_ml) if self.lungs_ml else ""
        return (
            f"{self.patient}: AUC {self.auc:.3f}; {len(self.marked)} slices, {self.marked.sum()} marked, {found.sum()} "
            f"with mask, {(found & self.marked).sum()} with both{lungs}"
        )


def score(
    dicom_dir: Path, labels: Path, results_dir: Path, mask: str, from_feet: bool = False, values: Sequence[int] = ()
) -> SliceScores:
    """Areas of a mask beside the labels of one patient."""
    files = check_dicom_series(dicom_dir).files
    headers = [dcmread(file, specific_tags=["SliceLocation", "SeriesInstanceUID"]) for file in files]
    case = str(headers[0].SeriesInstanceUID)
    case = case if (results_dir / case).is_dir() else dicom_dir.name
    image = nibabel.load(results_dir / case / f"{case}_{mask}.nii.gz")
    found, size_mm = np.asarray(image.dataobj), voxel_sizes(image.affine)
    counted = np.isin(found, values) if values else found > 0
    areas = counted.sum(axis=(0, 1)) * size_mm[0] * size_mm[1] / 100
    locations = np.array([float(header.SliceLocation) for header in headers])
    with labels.open(encoding="utf-8") as file:
        rows = {int(row["slice_index_sorted_by_SliceLocation"]): row["infected"] == "1" for row in csv.DictReader(file)}
    if len(rows) != len(areas):
        raise ValueError(
            f"{labels.name} has {len(rows)} slices, the series {len(areas)}. Give the labels of the series."
        )
    order = np.argsort(locations if from_feet else -locations)
    marked = np.array([rows[rank] for rank in range(len(rows))])
    return SliceScores(
        labels.stem.removesuffix("_slices"), marked, areas[order], locations[order], lungs_ml(results_dir / case)
    )


def lungs_ml(folder: Path) -> tuple[float, ...]:
    """Volumes of the left and the right lung, where `diagnose` has segmented them."""
    path = folder / f"{folder.name}_lungs.nii.gz"
    if not path.is_file():
        return ()
    image = nibabel.load(path)
    lungs, voxel_ml = np.asarray(image.dataobj), float(np.prod(voxel_sizes(image.affine))) / 1000
    return tuple(float((lungs == side).sum() * voxel_ml) for side in (1, 2))


def draw(axes: Axes, one: SliceScores, legend: str) -> None:
    """Area by slice, marked slices shaded."""
    ranks = np.arange(len(one.marked))
    top = max(float(one.area_cm2.max()), 1.0) * 1.08
    axes.bar(ranks[one.marked], top, width=1, color="0.85", label="marked by radiologists")
    axes.step(ranks, one.area_cm2, where="mid", color="C3", label=f"area of {legend}")
    axes.set(title=f"{one.patient}: AUC {one.auc:.3f}", ylabel="cm²", ylim=(0, top), xlim=(0, len(ranks) - 1))
    axes.legend(loc="upper left", frameon=False)


def main(
    data_dir: str,
    results_dir: str,
    mask: str = "infection",
    values: Sequence[int] = (),
    figure: str = "",
    legend: str = "",
    from_feet: bool = False,
) -> None:
    """Print a line for each patient and draw the areas over the slices."""
    tables = sorted(Path(data_dir).glob("*_slices.csv"))
    if not tables:
        raise ValueError(f"{data_dir} has no *_slices.csv. Give the folder of the slice labels.")
    patients = [
        score(table.with_name(table.stem.removesuffix("_slices")), table, Path(results_dir), mask, from_feet, values)
        for table in tables
    ]
    print("\n".join(map(str, patients)))  # noqa: T201
    if figure:
        page = Figure(figsize=(8, 2.6 * len(patients)), layout="constrained")
        for axes, one in zip(np.atleast_1d(page.subplots(len(patients), 1)), patients, strict=True):
            draw(axes, one, legend or mask)
        page.axes[-1].set_xlabel(f"slice, from the {'feet' if from_feet else 'head'}")
        with atomic_path(figure) as path:
            page.savefig(path, format="png", dpi=110)


if __name__ == "__main__":
    fire.Fire(main)
