from collections.abc import Mapping

import torch
import torch.nn.functional as F
from custom_components.losses.normalized_mse import NormalizedMSELoss
from monai.utils import convert_to_tensor
from torch.nn.modules.loss import _Loss


class AttentionGuidedLoss(_Loss):
    r"""Total loss of a branch (Ouyang et al. 2020, Eq. 4): $L = L_c + \lambda L_{ex}$.

    $L_c$ is the binary cross-entropy of the logit, $L_{ex}$ the :class:`NormalizedMSELoss` of the COVID-19 scans.

    Args:
        attention_weight: lambda, Sec. III-D: 0.5; 0 trains the plain classifier without masks.

    Raises:
        ValueError: when lambda is negative.

    Example:
        >>> loss = AttentionGuidedLoss()
        >>> mask = torch.ones(1, 1, 2, 3, 4)
        >>> prediction = {"logit": torch.zeros(1, 1), "attention": 0 * mask}
        >>> for label in (1, 0):  # log 2, and for COVID-19 half of an attention loss of 1
        ...     round(loss(prediction, {"label": torch.tensor([label]), "infection": mask}).item(), 4)
        1.1931
        0.6931
    """

    def __init__(self, attention_weight: float = 0.5) -> None:
        super().__init__()
        if not attention_weight >= 0:
            raise ValueError(f"attention_weight is {attention_weight}. Expected lambda of Eq. (4), 0 or more.")
        self.attention_weight = attention_weight
        self.attention_loss = NormalizedMSELoss()

    def forward(self, prediction: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Loss of a batch.

        Args:
            prediction: ``logit`` (B, 1) and, unless lambda is 0, ``attention`` T(A) (B, 1, D, H, W).
            target: ``label`` (B,), 1 for COVID-19 and 0 for CAP, and, unless lambda is 0, ``infection``
                (B, 1, D, H, W), 0 or 1.

        Returns:
            Scalar.

        Raises:
            ValueError: when shapes or labels are wrong, or attention or mask is missing.
        """
        logit = prediction["logit"]
        label = convert_to_tensor(torch.as_tensor(target["label"], device=logit.device), track_meta=False)
        _check_labels(logit, label)
        classification = F.binary_cross_entropy_with_logits(logit[:, 0].float(), label.float())
        if self.attention_weight == 0:
            return classification
        if "attention" not in prediction or target.get("infection") is None:
            raise ValueError(
                "AttentionGuidedLoss needs `attention` and `infection`. Add infection masks, or train without the "
                "attention loss: attention_weight 0 (configs/networks/plain.yaml)."
            )
        attention = self.attention_loss(prediction["attention"], target["infection"], label)
        return classification + self.attention_weight * attention


def _check_labels(logit: torch.Tensor, label: torch.Tensor) -> None:
    if logit.ndim != 2 or logit.shape[1] != 1 or label.shape != logit.shape[:1]:
        raise ValueError(
            f"Expected logits (B, 1) and labels (B,), got {tuple(logit.shape)} and {tuple(label.shape)}. "
            "Expected one label per scan: 1 for COVID-19, 0 for CAP."
        )
    wrong = label[(label != 0) & (label != 1)]
    if wrong.numel():
        raise ValueError(f"label is {wrong[0].item():g}. Expected 1 (COVID-19) or 0 (CAP). Check the datalist.")
