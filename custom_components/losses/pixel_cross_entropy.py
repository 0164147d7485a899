import torch
import torch.nn.functional as F
from custom_components.images.case_id import case_prefix
from custom_components.labels import IGNORE_LABEL
from monai.utils import convert_to_tensor
from torch.nn.modules.loss import _Loss


class PixelCrossEntropy(_Loss):
    r"""Multi-class cross-entropy over the pixels that are not ignored (Chen et al. 2020, Sec. II-D).

    $\mathcal{L} = -\sum_{c=1}^{M} y_{o,c} \log p_{o,c}$, averaged over the pixels o whose label is not ignored.
    With class weights it is the weighted mean, as in ``torch.nn.CrossEntropyLoss``. If every pixel is ignored, loss and
    gradient are 0. It is computed in float32 for any precision of the logits.

    Differs from the paper, which has a sigmoid on the last layer: here p is the softmax of the logits, so that the
    probabilities of a pixel add up to 1. ``sigmoid=True`` follows the paper's text, p_c = sigmoid(logit_c). The paper's
    formula alone would then be minimal with all channels at 1, because wrong classes have no penalty. Therefore
    -log(1 - p_c) of the wrong channels is added: a pixel's loss is the sum of its channels' binary cross-entropies.

    Args:
        ignore_index: label of ignored pixels.
        weight: weight of each class, shape (C,), not negative; default: 1 each.
        sigmoid: whether the channels are independent probabilities (the paper's last layer).

    Raises:
        ValueError: when a weight is negative or not finite.

    Example:
        >>> logits = torch.zeros(1, 4, 2, 3)  # knows nothing: each class has probability 1/4
        >>> round(PixelCrossEntropy()(logits, torch.ones(1, 1, 2, 3)).exp().item(), 5)
        4.0
    """

    weight: torch.Tensor | None

    def __init__(
        self, ignore_index: int = IGNORE_LABEL, weight: list[float] | torch.Tensor | None = None, sigmoid: bool = False
    ) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.sigmoid = sigmoid
        self.register_buffer("weight", None if weight is None else _checked_weight(weight))

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss of a batch.

        Args:
            input: logits, shape (B, C, H, W[, D]).
            target: label values 0..C-1 or ``ignore_index``, integer or float, shape (B, 1, H, W[, D]).

        Returns:
            Scalar, not negative.

        Raises:
            ValueError: when the shapes do not match or a label value is not valid.
        """
        logits, labels = convert_to_tensor(input, track_meta=False), convert_to_tensor(target, track_meta=False)
        self._check_shapes(logits, labels)
        self._check_values(labels, logits.shape[1], case_prefix(target))
        logits = logits if logits.dtype == torch.float64 else logits.float()
        counted = labels != self.ignore_index
        classes = torch.where(counted, labels, 0).long()
        weights = counted.to(logits.dtype) if self.weight is None else self.weight.to(logits)[classes] * counted
        losses = torch.where(counted, self._pixel_losses(logits, classes), 0)
        total = weights.sum()
        return (losses * weights).sum() / torch.where(total > 0, total, 1)

    def _pixel_losses(self, logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Loss of each pixel, shape (B, 1, ...); gather has a deterministic gradient on CUDA, NLLLoss has none."""
        if not self.sigmoid:
            return -F.log_softmax(logits, dim=1).gather(1, classes)
        against_all = F.softplus(logits).sum(dim=1, keepdim=True)  # sum_c -log(1 - p_c)
        return against_all - logits.gather(1, classes)  # log p - log(1 - p) is the logit

    def _check_shapes(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        expected = (logits.shape[0], 1, *logits.shape[2:])
        if logits.ndim < 3 or tuple(labels.shape) != expected:
            raise ValueError(
                f"Expected logits (B, C, H, W[, D]) and labels (B, 1, H, W[, D]), got logits {tuple(logits.shape)} and "
                f"labels {tuple(labels.shape)}. Give label maps with one channel on the grid of the logits."
            )
        if self.weight is not None and len(self.weight) != logits.shape[1]:
            raise ValueError(
                f"Expected one weight for each of the {logits.shape[1]} classes, got {len(self.weight)}. "
                "Match `weight` to the network's output channels."
            )

    def _check_values(self, labels: torch.Tensor, classes: int, case: str) -> None:
        allowed = [*range(classes), self.ignore_index]
        wrong = ~torch.isin(labels, torch.tensor(allowed, device=labels.device, dtype=labels.dtype))
        if bool(wrong.any()):
            raise ValueError(
                f"{case}label has value {labels[wrong][0].item():g} at {int(wrong.sum())} pixels. Expected 0 to "
                f"{classes - 1} or {self.ignore_index} (ignore). Check the label maps and that they are resampled with "
                "nearest neighbours."
            )


def _checked_weight(weight: list[float] | torch.Tensor) -> torch.Tensor:
    weights = torch.as_tensor(weight, dtype=torch.float32)
    if weights.ndim != 1 or not bool((weights.isfinite() & (weights >= 0)).all()):
        raise ValueError(f"Expected one weight >= 0 per class, got {weights.tolist()}. Correct `weight`.")
    return weights
