from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from custom_components.data.lesion_classes import LUNG_WINDOW_HU
from monai.transforms import MapTransform, RandomizableTransform

# HU of soft tissue, which a denser lung comes closer to.
TISSUE_HU = 40.0


def lung_density(hu: torch.Tensor, lung: torch.Tensor, tissue: torch.Tensor | float) -> torch.Tensor:
    """Lungs with another share of tissue: hu + f (40 - hu) inside, the rest as it is.

    Args:
        hu: HU, any shape.
        lung: True inside the lungs, same shape.
        tissue: f; 0.2 makes lung of -850 HU one of -672, as of someone who breathes out; below 0 it becomes lighter.

    Returns:
        HU, same shape; what is denser than soft tissue stays as it is.

    Example:
        >>> lung_density(torch.tensor([-860.0, -860.0, 100.0]), torch.tensor([True, False, True]), 0.5).tolist()
        [-410.0, -860.0, 100.0]
    """
    return torch.where(lung & (hu < TISSUE_HU), hu + tissue * (TISSUE_HU - hu), hu)


class RandLungDensityd(RandomizableTransform, MapTransform):
    """Make the lungs of a windowed CT denser or lighter at random, with a gradient along the patient's front to back.

    Free-breathing and expiratory lungs are denser than those of a full breath, and denser at the back where the
    patient lies: that is not ground-glass.

    Args:
        keys: image in the window, 0 to 1, shape (1, X, Y[, Z]), Y to Posterior.
        lung_key: lungs, not 0 inside, same shape; a case whose mask is empty stays as it is.
        prob: probability that the lungs are changed.
        tissue: range of f (:func:`lung_density`), uniform.
        gradient: largest difference of f between front and back.
        window_hu: HU that 0 and 1 stand for.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        lung_key: str = "lung",
        prob: float = 0.5,
        tissue: tuple[float, float] = (-0.12, 0.3),
        gradient: float = 0.15,
        window_hu: Sequence[float] = LUNG_WINDOW_HU,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.lung_key, self.tissue, self.gradient, self.window_hu = lung_key, tissue, gradient, window_hu

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change the images of a case, or leave them."""
        made = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return made
        least, most = self.tissue
        middle, slope = self.R.uniform(least, most), self.R.uniform(-self.gradient / 3, self.gradient)
        low, width = self.window_hu[0], self.window_hu[1] - self.window_hu[0]
        for key in self.keys:
            image = made[key]
            rows = torch.linspace(-0.5, 0.5, image.shape[2]).reshape(1, 1, -1, *[1] * (image.ndim - 3))
            hu = lung_density(image * width + low, made[self.lung_key] > 0, middle + slope * rows)
            made[key] = ((hu - low) / width).clamp(0, 1)
        return made
