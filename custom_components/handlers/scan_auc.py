import math
from typing import Any

import numpy as np
import torch
from custom_components.images.case_id import case_id
from custom_components.metrics.case_numbers import covid_probability
from monai.handlers import ROCAUC
from monai.metrics import ROCAUCMetric, compute_roc_auc
from numpy.typing import ArrayLike

# Logits of the branches of an ensemble; they do not depend on the ratio.
BRANCHES = ("logit_us", "logit_ss")


class ScanAUC(ROCAUC):
    """MONAI's ROCAUC of the scans, from ``logit`` and ``label``; AUC depends only on the order of the logits.

    Scans without final probability (Eq. 5 has no weight if the ratio is unknown) are left out, as in the report. Any
    other NaN or infinite logit is an error; MONAI would rank NaN above all numbers.

    Raises:
        ValueError: naming the case, when its logit is not finite.
    """

    def __init__(self) -> None:
        super().__init__(output_transform=_scores_and_labels)
        self.metric_fn = _AUCOfKnown()


class _AUCOfKnown(ROCAUCMetric):
    def aggregate(self, average: Any = None) -> np.ndarray | float | ArrayLike:
        """AUC of the scores that are not NaN; NaN if there is none."""
        scores, labels = self.get_buffer()
        known = ~torch.isnan(scores[:, 0])
        return compute_roc_auc(scores[known], labels[known]) if known.any() else math.nan


def _scores_and_labels(output: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    for item in output:
        for key in BRANCHES if BRANCHES[0] in item else ("logit",):
            covid_probability(item, key, str(item.get("case_id") or case_id(item)))
    logits = torch.stack([item["logit"].reshape(1).float() for item in output])
    labels = torch.tensor([[float(item["label"])] for item in output], device=logits.device)
    return logits, labels
