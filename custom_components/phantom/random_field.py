import numpy as np
from custom_components.phantom.grid import Points


def random_field(points: Points, rng: np.random.Generator, length_mm: float, modes: int = 40) -> np.ndarray:
    r"""Smooth random texture, one function of position however finely it is sampled.

    A sum of ``modes`` plane waves, :math:`\sqrt{2 / K} \sum_k \cos(w_k \cdot p + \phi_k)` with
    :math:`w_k \sim N(0, l^{-2})`: near Gaussian, zero mean, unit variance, correlation :math:`\exp(-d^2 / 2 l^2)`.
    On a grid each wave is a product over the axes, so that the sum is one matrix product.

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
