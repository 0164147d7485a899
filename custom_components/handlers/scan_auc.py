from typing import Any

import torch
from monai.handlers import ROCAUC


class ScanAUC(ROCAUC):
    """MONAI's ROCAUC of the scans: of ``logit`` against ``label``, whose order the AUC alone depends on."""

    def __init__(self) -> None:
        super().__init__(output_transform=_scores_and_labels)


def _scores_and_labels(output: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.stack([item["logit"].reshape(1).float() for item in output])
    labels = torch.tensor([[float(item["label"])] for item in output], device=logits.device)
    return logits, labels
