from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from custom_components.files.report_files import write_png
from custom_components.handlers.case_files import NATIVE
from custom_components.handlers.score_table import ScoreTable, listed_name
from custom_components.labels import INFECTION
from custom_components.metrics.mask_scores import MASKS, mask_scores
from custom_components.pictures.figures import MASKS as MASK_LAYER
from custom_components.pictures.figures import draw_slice
from custom_components.pictures.sheet import short_name
from custom_components.pictures.slices import slices_to_show
from custom_components.reports.display import Display
from custom_components.reports.score_tables import cell, markdown_table
from monai.engines import Workflow
from monai.utils import CommonKeys

SPREAD = ("mean", "min", "max")
SCORES = tuple(f"{score}_{name}" for name in MASKS for score in ("dice", "surface_dice"))


class MaskScoreTable(ScoreTable):
    """Ignite handler that writes the scores of lung and infection masks: ``per_case.csv``, ``summary.json``, overlays.

    A row has Dice, surface Dice and volumes in ml of :func:`custom_components.metrics.mask_scores.mask_scores`, empty
    if a mask is in neither truth nor prediction. The summary has mean, minimum and maximum of each. The overlays
    ``<case>/<case>_masks_<slice>.png`` show the axial slices with most true infection.

    Reads from each case ``label`` and ``pred`` (label maps (1, X, Y, Z)) and ``native``, the CT in HU, on one grid.

    Args:
        output_dir: folder of the files.
        protocol: description of the split, copied to the summary.
        tolerance_mm: tolerance of the surface Dice in mm for ``lung`` and ``infection``.
        overlay_slices: number of overlays per case.
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
            raise ValueError(f"tolerance_mm is {self.tolerance_mm}. Expected mm above 0 for {' and '.join(MASKS)}.")

    def describe(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Scores of a case; also draws its overlays."""
        name, display = listed_name(item), Display(item[NATIVE].affine)
        truth, predicted, image_hu = (
            torch.as_tensor(item[key]).detach().cpu()[0] for key in (CommonKeys.LABEL, CommonKeys.PRED, NATIVE)
        )
        try:
            scores = mask_scores(predicted, truth, display.file_spacing_mm, self.tolerance_mm)
        except ValueError as error:
            raise ValueError(f"Case {name}: {error}") from error
        dice = ", ".join(f"{mask} {cell(scores[f'dice_{mask}'], 2)}" for mask in MASKS)
        labels = {"truth": display.turned(truth.numpy()), "prediction": display.turned(predicted.numpy())}
        image, infected = display.turned(image_hu.numpy()), np.count_nonzero(labels["truth"] >= INFECTION, axis=(0, 1))
        for z in slices_to_show(infected, display.spacing_mm[2], self.overlay_slices):
            title = f"{short_name(name)}, slice {z} of {len(infected)} from the feet; Dice of the case: {dice}"
            shown = {key: label[..., z] for key, label in labels.items()}
            picture = draw_slice(image[..., z], shown, title, display.spacing_mm[:2], MASK_LAYER)
            write_png(self.output_dir / name / f"{name}_masks_{z:03d}.png", picture)
        return {"case_id": name, **scores}

    def write(self, engine: Workflow, cases: Sequence[dict[str, Any]], kept: Sequence[int]) -> None:
        """Write the table and the summary."""
        self._summary = {name: _spread([case[name] for case in cases]) for name in SCORES}
        self.write_files(cases, {"cases": len(cases), "tolerance_mm": self.tolerance_mm, **self._summary})

    def table(self) -> str:
        """Mean, minimum and maximum of each score."""
        rows = [
            [name.replace("_", " "), *(cell(score[key]) for key in SPREAD)] for name, score in self._summary.items()
        ]
        return markdown_table(["score", "mean", "minimum", "maximum"], rows)


def _spread(values: Sequence[float | None]) -> dict[str, float | int | None]:
    known = [value for value in values if value is not None]
    numbers = {name: round(float(getattr(np, name)(known)), 6) if known else None for name in SPREAD}
    return {**numbers, "cases": len(known)}
