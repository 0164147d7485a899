from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from custom_components.files.report_files import write_csv, write_json, write_png
from custom_components.handlers.evaluation_report import EvaluationReport
from custom_components.images.case_id import case_id
from custom_components.labels import INFECTION
from custom_components.metrics.mask_scores import MASKS, mask_scores
from custom_components.pictures.masks import draw_masks
from custom_components.pictures.overlay import slices_to_show, window_to_grey
from monai.data import MetaTensor
from monai.engines import Workflow
from monai.utils import CommonKeys
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

NATIVE = "native"
SPREAD = ("mean", "min", "max")
SCORES = tuple(f"{score}_{name}" for name in MASKS for score in ("dice", "surface_dice"))


class SegmentationReport(EvaluationReport):
    """Ignite handler that writes the scores of lung and infection masks: ``per_case.csv``, ``summary.json``, overlays.

    A row holds Dice, surface Dice and volumes in ml of :func:`custom_components.metrics.mask_scores.mask_scores`, empty
    where a mask is in neither truth nor prediction. The summary has mean, smallest and largest of each. The overlays
    ``<case>/<case>_masks_<slice>.png`` show the axial slices with most true infection.

    Of each case it takes ``label`` and ``pred`` (label maps (1, X, Y, Z)) and ``native``, the CT in HU, on one grid.

    Args:
        output_dir: folder of the files.
        protocol: how the cases were split, written into the summary as it is.
        tolerance_mm: of the surface Dice, of ``lung`` and of ``infection``.
        overlay_slices: overlays a case.
    """

    def __init__(
        self,
        output_dir: str | Path,
        protocol: str = "",
        tolerance_mm: Mapping[str, float] | None = None,
        overlay_slices: int = 3,
    ) -> None:
        super().__init__(output_dir, protocol)
        self.tolerance_mm = dict.fromkeys(MASKS, 2.0) if tolerance_mm is None else dict(tolerance_mm)
        self.overlay_slices = overlay_slices
        self._summary: dict[str, dict[str, Any]] = {}
        if set(self.tolerance_mm) != set(MASKS) or min(self.tolerance_mm.values()) <= 0:
            raise ValueError(f"tolerance_mm is {self.tolerance_mm}. Expected mm above 0 of {' and '.join(MASKS)}.")

    def describe(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Scores of a case; its overlays are drawn along the way.

        Raises:
            ValueError: naming the case, when truth and prediction do not fit.
        """
        name = case_id(item) if item.get("case_id") is None else str(item["case_id"])
        truth, predicted, image = (item[key] for key in (CommonKeys.LABEL, CommonKeys.PRED, NATIVE))
        try:
            scores = mask_scores(_labels(predicted), _labels(truth), _spacing_mm(image), self.tolerance_mm)
        except ValueError as error:
            raise ValueError(f"Case {name}: {error}") from error
        self._draw(name, image, {"truth": truth, "prediction": predicted})
        return {"case_id": name, **scores}

    def write(self, engine: Workflow, cases: Sequence[dict[str, Any]], kept: Sequence[int]) -> None:
        """Write the table and the summary."""
        write_csv(self.output_dir / "per_case.csv", cases)
        self._summary = summary = {name: _spread([case[name] for case in cases]) for name in SCORES}
        head = {"protocol": self.protocol, "cases": len(cases), "tolerance_mm": self.tolerance_mm}
        write_json(self.output_dir / "summary.json", {**head, **summary})

    def table(self) -> str:
        """Mean, smallest and largest of each score."""
        rows = []
        for name, score in self._summary.items():
            cells = ["-" if score[key] is None else f"{score[key]:.3f}" for key in SPREAD]
            rows.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
        return "\n".join(["| score | mean | smallest | largest |", "|---|---|---|---|", *rows])

    def _draw(self, name: str, image: MetaTensor, labels: Mapping[str, Any]) -> None:
        upright = {key: _upright(label, image) for key, label in labels.items()}
        grey, spacing_mm = window_to_grey(_upright(image, image)), _upright_spacing_mm(image)
        infected = np.count_nonzero(upright["truth"] >= INFECTION, axis=(0, 1))
        for z in slices_to_show(infected, spacing_mm[2], self.overlay_slices):
            picture = draw_masks(
                grey[..., z],
                {key: label[..., z] for key, label in upright.items()},
                f"{name}, slice {z} of {grey.shape[2]} from the feet",
                spacing_mm[:2],
            )
            write_png(self.output_dir / name / f"{name}_masks_{z:03d}.png", picture)


def _labels(labels: Any) -> torch.Tensor:
    return torch.as_tensor(labels).detach().cpu()[0]


def _spacing_mm(image: MetaTensor) -> list[float]:
    return [float(step) for step in image.pixdim]


def _orientation(image: MetaTensor) -> np.ndarray:
    return ornt_transform(io_orientation(image.affine.cpu().numpy()), axcodes2ornt(("L", "P", "S")))


def _upright(volume: Any, image: MetaTensor) -> np.ndarray:
    """Array with x to Left, y to Posterior, z to Superior."""
    return apply_orientation(_labels(volume).numpy(), _orientation(image))


def _upright_spacing_mm(image: MetaTensor) -> list[float]:
    return [_spacing_mm(image)[axis] for axis in np.argsort(_orientation(image)[:, 0])]


def _spread(values: Sequence[float | None]) -> dict[str, float | int | None]:
    known = [value for value in values if value is not None]
    if not known:
        return {**dict.fromkeys(SPREAD), "cases": 0}
    rounded = [round(float(number), 6) for number in (np.mean(known), min(known), max(known))]
    return {**dict(zip(SPREAD, rounded, strict=True)), "cases": len(known)}
