"""How well masks of `diagnose` tell the slices that radiologists of COVID-CT-MD marked as infected: AUC and a figure.

python docs/score_slice_labels.py DATA_DIR RESULTS_DIR [--mask infection] [--figure slices.png] [--from_feet]

DATA_DIR holds, for each patient, a DICOM folder and `<patient>_slices.csv` (slice_index_sorted_by_SliceLocation and
infected); RESULTS_DIR is the output folder of `diagnose`. The data set does not say at which end index 0 lies. It is
read from the head, the largest SliceLocation: so read, the marked slices are those on which disease is to be seen.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import fire
import nibabel
import numpy as np
from custom_components.data.atomic import atomic_path
from custom_components.data.dicom_series import check_dicom_series
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
    lungs_ml: tuple[float, float]

    @property
    def auc(self) -> float:
        """Of the area, for telling marked slices from the others."""
        return float(roc_auc_score(self.marked, self.area_cm2))

    def __str__(self) -> str:
        left, right = self.lungs_ml
        found = self.area_cm2 > 0
        return (
            f"{self.patient}: AUC {self.auc:.3f}; {len(self.marked)} slices, {self.marked.sum()} marked, {found.sum()} "
            f"with mask, {(found & self.marked).sum()} with both; left lung {left:.0f} ml, right lung {right:.0f} ml"
        )


def score(dicom_dir: Path, labels: Path, results_dir: Path, mask: str, from_feet: bool = False) -> SliceScores:
    """Areas of a mask beside the labels of one patient."""
    files = check_dicom_series(dicom_dir).files
    headers = [dcmread(file, specific_tags=["SliceLocation", "SeriesInstanceUID"]) for file in files]
    case = str(headers[0].SeriesInstanceUID)
    image = nibabel.load(results_dir / case / f"{case}_{mask}.nii.gz")
    lungs = np.asarray(nibabel.load(results_dir / case / f"{case}_lungs.nii.gz").dataobj)
    size_mm = voxel_sizes(image.affine)
    areas = (np.asarray(image.dataobj) > 0).sum(axis=(0, 1)) * size_mm[0] * size_mm[1] / 100
    locations = np.array([float(header.SliceLocation) for header in headers])
    with labels.open(encoding="utf-8") as file:
        rows = {int(row["slice_index_sorted_by_SliceLocation"]): row["infected"] == "1" for row in csv.DictReader(file)}
    if len(rows) != len(areas):
        raise ValueError(
            f"{labels.name} has {len(rows)} slices, the series {len(areas)}. Give the labels of the series."
        )
    order = np.argsort(locations if from_feet else -locations)
    volumes = [float((lungs == side).sum() * np.prod(size_mm) / 1000) for side in (1, 2)]
    marked = np.array([rows[rank] for rank in range(len(rows))])
    return SliceScores(labels.stem.removesuffix("_slices"), marked, areas[order], locations[order], tuple(volumes))


def draw(axes: Axes, one: SliceScores, mask: str) -> None:
    """Area by slice, marked slices shaded."""
    ranks = np.arange(len(one.marked))
    top = max(float(one.area_cm2.max()), 1.0) * 1.08
    axes.fill_between(ranks, 0, top, where=one.marked, step="mid", color="0.85", label="marked by radiologists")
    axes.step(ranks, one.area_cm2, where="mid", color="C3", label=f"area of {mask}")
    axes.set(title=f"{one.patient}: AUC {one.auc:.3f}", ylabel="cm²", ylim=(0, top), xlim=(0, len(ranks) - 1))
    axes.legend(loc="upper left", frameon=False)


def main(data_dir: str, results_dir: str, mask: str = "infection", figure: str = "", from_feet: bool = False) -> None:
    """Print a line for each patient and draw the areas over the slices."""
    tables = sorted(Path(data_dir).glob("*_slices.csv"))
    if not tables:
        raise ValueError(f"{data_dir} has no *_slices.csv. Give the folder of the slice labels.")
    patients = [
        score(table.with_name(table.stem.removesuffix("_slices")), table, Path(results_dir), mask, from_feet)
        for table in tables
    ]
    print("\n".join(map(str, patients)))  # noqa: T201
    if figure:
        page = Figure(figsize=(8, 2.6 * len(patients)), layout="constrained")
        for axes, one in zip(np.atleast_1d(page.subplots(len(patients), 1)), patients, strict=True):
            draw(axes, one, mask)
        page.axes[-1].set_xlabel(f"slice, from the {'feet' if from_feet else 'head'}")
        with atomic_path(figure) as path:
            page.savefig(path, format="png", dpi=110)


if __name__ == "__main__":
    fire.Fire(main)
