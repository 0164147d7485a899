import math
from typing import Any

import numpy as np
import torch
from custom_components.images.case_id import case_id
from custom_components.infection_size import THREE_CLASSES
from custom_components.metrics.case_numbers import class_probabilities, covid_probability, has_three_classes
from monai.handlers import ROCAUC
from monai.metrics import ROCAUCMetric, compute_roc_auc
from monai.networks import one_hot
from numpy.typing import ArrayLike

# Logits of the branches of an ensemble; they do not depend on the ratio.
BRANCHES = ("logit_us", "logit_ss")


class ScanAUC(ROCAUC):
    """MONAI's ROCAUC of the scans, from ``logit`` and ``label``; AUC depends only on the order of the logits.

    With the logits of three classes it is the mean of the AUC of each class against the rest, from the probabilities.

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
    if has_three_classes(output[0]):
        return _class_scores_and_labels(output)
    for item in output:
        for key in BRANCHES if BRANCHES[0] in item else ("logit",):
            covid_probability(item, key, str(item.get("case_id") or case_id(item)))
    logits = torch.stack([item["logit"].reshape(1).float() for item in output])
    labels = torch.tensor([[float(item["label"])] for item in output], device=logits.device)
    return logits, labels


def _class_scores_and_labels(output: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and one-hot labels, each (N, 3)."""
    names = [str(item.get("case_id") or case_id(item)) for item in output]
    found = [list(class_probabilities(item, name).values()) for item, name in zip(output, names, strict=True)]
    labels = torch.tensor([int(item["label"]) for item in output])
    device = output[0]["logit"].device
    return torch.tensor(found, device=device), one_hot(labels[:, None], len(THREE_CLASSES)).to(device)
