from collections.abc import Mapping

import torch
import torch.nn.functional as F
from custom_components.infection_size import COVID, NORMAL_CLASS, THREE_CLASSES
from custom_components.losses.normalized_mse import NormalizedMSELoss
from monai.utils import convert_to_tensor
from torch.nn.modules.loss import _Loss


class AttentionGuidedLoss(_Loss):
    r"""Total loss of a branch (Ouyang et al. 2020, Eq. 4): $L = L_c + \lambda L_{ex}$.

    $L_c$ is the binary cross-entropy of the logit, $L_{ex}$ the :class:`NormalizedMSELoss` of the COVID-19 scans.

    With three classes (not in the paper) $L_c$ is the cross-entropy of the logits of CAP, COVID-19 and normal scans.
    $L_{ex}$ stays that of the COVID-19 scans. Normal scans, whose mask M is empty, are left out of it: for M = 0,
    Eq. (3) is $\sum T^2 / \sum T$, which is about 1 for every map, because each map is scaled to a maximum of 1. No
    attention could reach 0, and the gradient would raise T wherever it is below half of the loss.

    Args:
        attention_weight: lambda, Sec. III-D: 0.5; 0 trains the plain classifier without masks.
        num_classes: 1 for one logit of COVID-19, 3 for CAP, COVID-19 and normal scans.

    Raises:
        ValueError: when lambda is negative, or the number of classes is another.

    Example:
        >>> loss = AttentionGuidedLoss()
        >>> mask = torch.ones(1, 1, 2, 3, 4)
        >>> prediction = {"logit": torch.zeros(1, 1), "attention": 0 * mask}
        >>> for label in (1, 0):  # log 2, and for COVID-19 half of an attention loss of 1
        ...     round(loss(prediction, {"label": torch.tensor([label]), "infection": mask}).item(), 4)
        1.1931
        0.6931
    """

    def __init__(self, attention_weight: float = 0.5, num_classes: int = 1) -> None:
        super().__init__()
        if num_classes not in (1, len(THREE_CLASSES)):
            raise ValueError(f"num_classes is {num_classes}. Expected 1 (logit of COVID-19) or 3 (with normal scans).")
        if not attention_weight >= 0:
            raise ValueError(f"attention_weight is {attention_weight}. Expected lambda of Eq. (4), 0 or more.")
        self.attention_weight, self.num_classes = attention_weight, num_classes
        self.attention_loss = NormalizedMSELoss()

    def forward(self, prediction: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Loss of a batch.

        Args:
            prediction: ``logit`` (B, num_classes) and, unless lambda is 0, ``attention`` T(A) (B, 1, D, H, W).
            target: ``label`` (B,), 1 for COVID-19, 0 for CAP and, with three classes, 2 for normal scans; and, unless
                lambda is 0, ``infection`` (B, 1, D, H, W), 0 or 1.

        Returns:
            Scalar.

        Raises:
            ValueError: when shapes or labels are wrong, or attention or mask is missing.
        """
        logit = prediction["logit"]
        label = convert_to_tensor(torch.as_tensor(target["label"], device=logit.device), track_meta=False)
        _check_labels(logit, label, self.num_classes)
        if self.num_classes == 1:
            classification = F.binary_cross_entropy_with_logits(logit[:, 0].float(), label.float())
        else:
            classification = F.cross_entropy(logit.float(), label.long())
        if self.attention_weight == 0:
            return classification
        if "attention" not in prediction or target.get("infection") is None:
            raise ValueError(
                "AttentionGuidedLoss needs `attention` and `infection`. Add infection masks, or train without the "
                "attention loss: attention_weight 0 (configs/networks/plain.yaml)."
            )
        attention = self.attention_loss(prediction["attention"], target["infection"], label == COVID)
        return classification + self.attention_weight * attention


def _check_labels(logit: torch.Tensor, label: torch.Tensor, num_classes: int) -> None:
    if logit.ndim != 2 or logit.shape[1] != num_classes or label.shape != logit.shape[:1]:
        raise ValueError(
            f"Expected logits (B, {num_classes}) and labels (B,), got {tuple(logit.shape)} and {tuple(label.shape)}. "
            "Expected one label per scan: 1 for COVID-19, 0 for CAP."
        )
    wrong = label[(label != 0) & (label != 1) & ((label != NORMAL_CLASS) | (num_classes == 1))]
    if wrong.numel():
        known = "1 (COVID-19) or 0 (CAP)" if num_classes == 1 else "1 (COVID-19), 0 (CAP) or 2 (normal)"
        raise ValueError(f"label is {wrong[0].item():g}. Expected {known}. Check the datalist.")
