from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from custom_components.data.lesion_classes import LUNG_WINDOW_HU
from custom_components.transforms.lung_density import lung_density
from monai.transforms import MapTransform, RandomizableTransform
from scipy import ndimage

# Fewer voxels of lung are a corner of a patch.
LEAST_LUNG = 1000


class RandPlantedLesionsd(RandomizableTransform, MapTransform):
    """Plant dense blobs in the lungs of a windowed CT at random, with soft or sharp borders, and label them.

    Where only one data set has infection labelled, a network could tell it by the intensities of that data set. Blobs
    in the healthy lungs of another one take that away.

    Args:
        keys: image in the window, 0 to 1, shape (1, X, Y, Z).
        value: label value of what is planted.
        label_key: label map, same shape.
        lung_key: lungs, True inside, same shape.
        prob: probability that a case is changed.
        share: range of the share of the lungs that is changed.
        tissue: range of f (:func:`lung_density`): ground-glass at the lower, consolidation at the upper end.
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
        """Change the images and the label of a case, or leave them."""
        made = dict(data)
        lung = np.asarray(made[self.lung_key][0], dtype=bool)
        self.randomize(None)
        if not self._do_transform or np.count_nonzero(lung) < LEAST_LUNG:
            return made
        blobs, texture = self._blobs(lung), self._noise(lung.shape, 0.3, 1.2)
        tissue = blobs * np.clip(self.R.uniform(*self.tissue) * (1 + 0.3 * texture / texture.std()), 0.1, 1)
        low, width = self.window_hu[0], self.window_hu[1] - self.window_hu[0]
        for key in self.keys:
            share = torch.from_numpy(tissue.astype(np.float32))[None]
            hu = lung_density(torch.as_tensor(made[key]) * width + low, torch.from_numpy(lung)[None], share)
            made[key] = ((hu - low) / width).clamp(0, 1)
        label = torch.as_tensor(made[self.label_key])
        made[self.label_key] = torch.where(torch.from_numpy(blobs > 0.5)[None], self.value, label).to(label.dtype)
        return made

    def _blobs(self, lung: np.ndarray) -> np.ndarray:
        """Share of each voxel that is lesion, 0 to 1; 0 outside the lungs."""
        noise = self._noise(lung.shape, 1.5, 4.0)
        level = np.quantile(noise[lung], 1 - self.R.uniform(*self.share))
        softness = self.R.uniform(0.02, 0.25) * noise[lung].std()
        return np.clip((noise - level) / softness + 0.5, 0, 1) * lung

    def _noise(self, shape: Sequence[int], least: float, most: float) -> np.ndarray:
        return ndimage.gaussian_filter(self.R.standard_normal(shape), self.R.uniform(least, most))
