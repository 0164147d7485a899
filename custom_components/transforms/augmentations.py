from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from custom_components.labels import LUNG_WINDOW_HU
from monai.transforms import MapTransform, RandomizableTransform
from scipy import ndimage

# With fewer lung voxels, a patch only touches the lungs and is not changed.
LEAST_LUNG = 1000

# Maximum share of tissue that is added to a lung.
MOST_TISSUE = 0.7

# HU of soft tissue: a denser lung is closer to it.
TISSUE_HU = 40.0


class RandPlantedLesionsd(RandomizableTransform, MapTransform):
    """Plant dense blobs in the lungs of a windowed CT at random, with soft or sharp borders, and label them.

    If infection is labelled in one data set only, a network could recognise the data set by its intensities instead.
    Blobs in the healthy lungs of another data set prevent that.

    Args:
        keys: windowed image, 0 to 1, shape (1, X, Y, Z).
        value: label value of the blobs.
        label_key: label map, same shape.
        lung_key: lungs, True inside, same shape.
        prob: probability that a case is changed.
        share: range of the fraction of the lungs that is changed.
        tissue: range of f (:func:`lung_density`), from ground-glass to consolidation.
        window_hu: HU that 0 and 1 stand for.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        value: int,
        label_key: str = "label",
        lung_key: str = "lung",
        prob: float = 0.5,
        share: tuple[float, float] = (0.01, 0.2),
        tissue: tuple[float, float] = (0.25, 0.95),
        window_hu: Sequence[float] = LUNG_WINDOW_HU,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.value, self.label_key, self.lung_key = value, label_key, lung_key
        self.share, self.tissue, self.window_hu = share, tissue, window_hu

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Plant blobs in the images of a case and label them, or change nothing."""
        made = dict(data)
        lung = np.asarray(made[self.lung_key][0], dtype=bool)
        self.randomize(None)
        if not self._do_transform or np.count_nonzero(lung) < LEAST_LUNG:
            return made
        blobs, texture = self._blobs(lung), self._noise(lung.shape, 0.3, 1.2)
        tissue = blobs * np.clip(self.R.uniform(*self.tissue) * (1 + 0.3 * texture / texture.std()), 0.1, 1)
        inside, share = torch.from_numpy(lung)[None], torch.from_numpy(tissue.astype(np.float32))[None]
        for key in self.keys:
            made[key] = _windowed_density(torch.as_tensor(made[key]), inside, share, self.window_hu)
        label = torch.as_tensor(made[self.label_key])
        made[self.label_key] = torch.where(torch.from_numpy(blobs > 0.5)[None], self.value, label).to(label.dtype)
        return made

    def _blobs(self, lung: np.ndarray) -> np.ndarray:
        """Fraction of lesion in each voxel, 0 to 1; 0 outside the lungs."""
        noise = self._noise(lung.shape, 1.5, 4.0)
        level = np.quantile(noise[lung], 1 - self.R.uniform(*self.share))
        softness = self.R.uniform(0.02, 0.25) * noise[lung].std()
        return np.clip((noise - level) / softness + 0.5, 0, 1) * lung

    def _noise(self, shape: Sequence[int], least: float, most: float) -> np.ndarray:
        return ndimage.gaussian_filter(self.R.standard_normal(shape), self.R.uniform(least, most))


def lung_density(hu: torch.Tensor, lung: torch.Tensor, tissue: torch.Tensor | float) -> torch.Tensor:
    """Change the tissue content of the lungs: hu + f (40 - hu) inside the lungs, unchanged outside.

    Args:
        hu: HU, any shape.
        lung: True inside the lungs, same shape.
        tissue: f; 0.2 changes lung of -850 HU to -672 HU, as in expiration; a negative f makes it less dense.

    Returns:
        HU, same shape; voxels denser than soft tissue are unchanged.

    Example:
        >>> lung_density(torch.tensor([-860.0, -860.0, 100.0]), torch.tensor([True, False, True]), 0.5).tolist()
        [-410.0, -860.0, 100.0]
    """
    return torch.where(lung & (hu < TISSUE_HU), hu + tissue * (TISSUE_HU - hu), hu)


class RandLungDensityd(RandomizableTransform, MapTransform):
    """Make the lungs of a windowed CT denser or less dense at random, with a gradient from front to back.

    Lungs are denser in free breathing and expiration than in full inspiration, and denser at the back of a lying
    patient. This is not ground-glass.

    Args:
        keys: windowed image, 0 to 1, shape (1, X, Y[, Z]), Y to Posterior.
        lung_key: lungs, not 0 inside, same shape; a case with an empty mask is not changed.
        prob: probability that the lungs are changed.
        tissue: range of f (:func:`lung_density`), uniform.
        gradient: maximum difference of f between front and back.
        dependent: maximum f at the posterior border of the lungs, added in half of the changed cases and decreasing to
            the front (:func:`dependent_density`): the dense band at the back of a lying patient. 0 adds none.
        window_hu: HU that 0 and 1 stand for.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        lung_key: str = "lung",
        prob: float = 0.5,
        tissue: tuple[float, float] = (-0.12, 0.3),
        gradient: float = 0.15,
        dependent: float = 0.0,
        window_hu: Sequence[float] = LUNG_WINDOW_HU,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.lung_key, self.tissue, self.gradient, self.window_hu = lung_key, tissue, gradient, window_hu
        self.dependent = dependent

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change the lungs in the images of a case, or nothing."""
        made = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return made
        least, most = self.tissue
        middle, slope = self.R.uniform(least, most), self.R.uniform(-self.gradient / 3, self.gradient)
        lung = made[self.lung_key] > 0
        band = self._dependent(lung)
        for key in self.keys:
            image = made[key]
            rows = torch.linspace(-0.5, 0.5, image.shape[2]).reshape(1, 1, -1, *[1] * (image.ndim - 3))
            tissue = (middle + slope * rows + band).clamp(max=MOST_TISSUE)
            made[key] = _windowed_density(image, lung, tissue, self.window_hu)
        return made

    def _dependent(self, lung: torch.Tensor) -> torch.Tensor | float:
        if not self.dependent or self.R.rand() < 0.5:
            return 0.0
        most, depth, level = self.R.uniform(0, self.dependent), self.R.uniform(0.02, 0.12), self.R.uniform(0, 1)
        return most * dependent_density(lung, depth * lung.shape[2], level)


def dependent_density(lung: torch.Tensor, depth: float, level: float) -> torch.Tensor:
    """Share of the posterior density in each voxel: exp(-d / depth), d in rows from the back of the lung.

    Args:
        lung: True inside the lungs, (1, X, Y[, Z]), Y to Posterior.
        depth: rows over which the share decreases to 1/e.
        level: 0 measures d from the back of each column of the lung, 1 from the lowest point of the slice, as a fluid
            would lie; values between are a weighted mean of both.

    Returns:
        0 to 1, shape (1, X, Y[, Z]).

    Example:
        >>> band = dependent_density(torch.ones(1, 1, 3, dtype=torch.bool), depth=1.0, level=0.0)
        >>> [round(value, 2) for value in band[0, 0].tolist()]
        [0.14, 0.37, 1.0]
    """
    rows = torch.arange(lung.shape[2]).reshape(1, 1, -1, *[1] * (lung.ndim - 3))
    of_column = torch.where(lung, rows, 0).amax(2, keepdim=True)
    of_slice = of_column.amax(1, keepdim=True)
    back = (1 - level) * of_column + level * of_slice
    return torch.exp(-(back - rows).clamp(min=0) / depth)


def _windowed_density(
    image: torch.Tensor, lung: torch.Tensor, tissue: torch.Tensor, window_hu: Sequence[float]
) -> torch.Tensor:
    low, high = window_hu
    hu = lung_density(image * (high - low) + low, lung, tissue)
    return ((hu - low) / (high - low)).clamp(0, 1)
