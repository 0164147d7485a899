from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MIN_IN_PLANE = 32


class Points(NamedTuple):
    """Positions in mm: x to the patient's Left, y to Posterior, z to Superior; arrays that can be broadcast."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray


@dataclass(frozen=True)
class Grid:
    """Voxel centres of a phantom in mm; the origin is the middle of the chest.

    Args:
        points: x (X, 1, 1), y (1, Y, 1) and z (1, 1, Z), float32, mm.
        spacing_mm: voxel size along x, y, z.
    """

    points: Points
    spacing_mm: tuple[float, float, float]

    @classmethod
    def centred(cls, shape: Sequence[int], spacing_mm: Sequence[float], level_mm: float = 0.0) -> "Grid":
        """A grid around the middle of the chest.

        Args:
            shape: voxels along x, y, z; at least 32 along x and y.
            spacing_mm: voxel size along x, y, z.
            level_mm: z of the centre of the grid.

        Returns:
            The grid.

        Raises:
            ValueError: when shape or spacing is not valid for a volume.

        Example:
            >>> Grid.centred((32, 40, 3), (2.0, 2.0, 5.0)).points.z.ravel().tolist()
            [-5.0, 0.0, 5.0]
        """
        is_whole = len(shape) == 3 and all(isinstance(count, int | np.integer) for count in shape)
        if not is_whole or min(shape[:2]) < MIN_IN_PLANE or shape[2] < 1:
            raise ValueError(
                f"Phantom shape is {tuple(shape)}. Expected three whole numbers (x, y, z), "
                f"x and y at least {MIN_IN_PLANE}, z at least 1. Use a larger shape and a smaller spacing."
            )
        if len(spacing_mm) != 3 or not all(np.isfinite(step) and step > 0 for step in spacing_mm):
            raise ValueError(
                f"Phantom spacing is {tuple(spacing_mm)} mm. Expected three positive numbers (x, y, z), "
                "for example (2.8, 2.8, 6.0)."
            )
        x, y, z = (
            ((np.arange(count) - (count - 1) / 2) * step).astype(np.float32)
            for count, step in zip(shape, spacing_mm, strict=True)
        )
        points = Points(x[:, None, None], y[None, :, None], z[None, None, :] + np.float32(level_mm))
        return cls(points, (float(spacing_mm[0]), float(spacing_mm[1]), float(spacing_mm[2])))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        return self.points.x.size, self.points.y.size, self.points.z.size

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    @property
    def edge_mm(self) -> float:
        """Width over which a surface fades from outside to inside: one in-plane voxel."""
        return (self.spacing_mm[0] + self.spacing_mm[1]) / 2


def random_field(points: Points, rng: np.random.Generator, length_mm: float, modes: int = 40) -> np.ndarray:
    r"""Smooth random texture: a function of position, independent of the grid.

    A sum of ``modes`` plane waves, :math:`\sqrt{2 / K} \sum_k \cos(w_k \cdot p + \phi_k)` with
    :math:`w_k \sim N(0, l^{-2})`: near Gaussian, zero mean, unit variance, correlation :math:`\exp(-d^2 / 2 l^2)`.
    On a grid, each wave is a product over the axes, so the sum is one matrix product.

    Args:
        points: x (X, 1, 1), y (1, Y, 1), z (1, 1, Z) in mm.
        rng: source of the waves.
        length_mm: correlation length l.
        modes: number of waves K.

    Returns:
        Texture, float32, shape (X, Y, Z).
    """
    waves = rng.normal(scale=1.0 / length_mm, size=(3, modes))
    phase = rng.uniform(0.0, 2 * np.pi, size=modes)
    x, y, z = (np.exp(1j * np.outer(axis.ravel(), wave)) for axis, wave in zip(points, waves, strict=True))
    x = (x * np.exp(1j * phase)).astype(np.complex64)
    yz = (y[:, None, :] * z[None, :, :]).reshape(-1, modes).astype(np.complex64)
    total = x.real @ yz.real.T - x.imag @ yz.imag.T
    return (np.sqrt(2.0 / modes) * total).astype(np.float32).reshape(x.shape[0], y.shape[0], z.shape[0])
