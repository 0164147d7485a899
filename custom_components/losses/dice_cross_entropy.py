import torch
import torch.nn.functional as F
from custom_components.labels import IGNORE_LABEL
from custom_components.losses.pixel_cross_entropy import PixelCrossEntropy
from monai.losses import DiceLoss
from monai.utils import convert_to_tensor
from torch.nn.modules.loss import _Loss

# Smoothing in numerator and denominator: a class that is absent and hardly predicted adds little loss.
SMOOTH = 1.0


class DiceCrossEntropy(_Loss):
    r"""Sum of pixel cross-entropy and Dice loss, for classes that cover a small part of the image.

    $\mathcal{L} = \mathcal{L}_{CE} + \frac{1}{C} \sum_{c=1}^{C} (1 - \frac{2 \sum_o p_{o,c} y_{o,c} + 1}
    {\sum_o p_{o,c} + \sum_o y_{o,c} + 1})$ with the C classes without background, p the softmax of the logits, and o
    all pixels of a batch whose label is not ignored. The first term is :class:`PixelCrossEntropy`, the second MONAI's
    ``DiceLoss``, whose own masks act on logits.

    The paper uses only the cross-entropy (Chen et al. 2020, Sec. II-D).

    Args:
        ignore_index: label of ignored pixels.
        weight: weight of each class in the cross-entropy, shape (C + 1,), not negative; default: 1 each.

    Raises:
        ValueError: when a weight is negative or not finite.

    Example:
        >>> labels = torch.randint(0, 4, (1, 1, 8, 9))
        >>> right = 100 * F.one_hot(labels[:, 0], 4).movedim(-1, 1).float()
        >>> round(DiceCrossEntropy()(right, labels).item(), 4)
        0.0
    """

    def __init__(self, ignore_index: int = IGNORE_LABEL, weight: list[float] | torch.Tensor | None = None) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.cross_entropy = PixelCrossEntropy(ignore_index, weight)
        self.dice = DiceLoss(include_background=False, batch=True, smooth_nr=SMOOTH, smooth_dr=SMOOTH)

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss of a batch.

        Args:
            input: logits, shape (B, C + 1, H, W[, D]).
            target: label values 0..C or ``ignore_index``, integer or float, shape (B, 1, H, W[, D]).

        Returns:
            Scalar, not negative.

        Raises:
            ValueError: when the shapes do not match or a label value is not valid.
        """
        cross_entropy = self.cross_entropy(input, target)
        logits, labels = convert_to_tensor(input, track_meta=False), convert_to_tensor(target, track_meta=False)
        probabilities = logits.to(cross_entropy.dtype).softmax(dim=1)
        counted = labels != self.ignore_index
        classes = torch.where(counted, labels, 0).long()[:, 0]
        truth = F.one_hot(classes, logits.shape[1]).movedim(-1, 1).to(probabilities.dtype)
        return cross_entropy + self.dice(probabilities * counted, truth * counted)
