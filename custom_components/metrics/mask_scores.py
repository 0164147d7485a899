import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from custom_components.labels import INFECTION, LUNG
from monai.metrics import compute_dice, compute_surface_dice

# Label values of each mask: infected lung counts as lung.
MASKS = {"lung": LUNG, "infection": INFECTION}


def mask_scores(
    predicted: torch.Tensor, truth: torch.Tensor, spacing_mm: Sequence[float], tolerance_mm: Mapping[str, float]
) -> dict[str, float | None]:
    """Compute Dice, surface Dice and volumes of lungs and infection of one scan.

    Dice is ``2 |P and T| / (|P| + |T|)``; surface Dice is the fraction of both surfaces within a tolerance in mm of
    the other (Nikolov et al. 2018, MONAI's ``compute_surface_dice``). Infected lung counts as lung.

    Args:
        predicted: label map, 0 background, 1 lung, 2 infection, shape (X, Y, Z).
        truth: label map, same shape.
        spacing_mm: voxel size along x, y, z.
        tolerance_mm: tolerance of the surface Dice for ``lung`` and ``infection``.

    Returns:
        ``dice_lung``, ``surface_dice_lung``, ``ml_lung_true``, ``ml_lung_pred`` and the same for infection. Both scores
        are 0 if a mask is empty in only one of truth and prediction, and None if it is empty in both.

    Raises:
        ValueError: if the shapes differ, or a label is NaN or infinite.

    Example:
        >>> label = torch.zeros(6, 7, 8)
        >>> label[2:4, 2:5, 2:6] = 1
        >>> scores = mask_scores(label, label, (1.0, 2.0, 3.0), {"lung": 1.0, "infection": 1.0})
        >>> scores["dice_lung"], scores["surface_dice_lung"], scores["ml_lung_true"], scores["dice_infection"]
        (1.0, 1.0, 0.144, None)
    """
    if predicted.shape != truth.shape or truth.ndim != 3:
        raise ValueError(
            f"The prediction is {tuple(predicted.shape)} and the truth {tuple(truth.shape)}. Expected both on one grid "
            "(X, Y, Z)."
        )
    for what, labels in (("prediction", predicted), ("truth", truth)):
        if not torch.isfinite(labels).all():
            raise ValueError(f"The {what} contains NaN or infinite labels. Expected 0, 1 and 2.")
    scores: dict[str, float | None] = {}
    for name, value in MASKS.items():
        pred, true = ((labels >= value)[None, None] for labels in (predicted, truth))
        there = [bool(mask.any()) for mask in (pred, true)]
        dice = surface = 0.0 if any(there) else None
        if all(there):
            options: dict[str, Any] = {"include_background": True, "spacing": list(spacing_mm)}
            surface = compute_surface_dice(pred, true, [tolerance_mm[name]], **options).item()
            dice = compute_dice(pred.float(), true.float()).item()
        scores |= {f"dice_{name}": dice, f"surface_dice_{name}": surface}
        for whose, mask in (("true", true), ("pred", pred)):
            scores[f"ml_{name}_{whose}"] = round(float(mask.sum()) * math.prod(spacing_mm) / 1000, 6)
    return scores
