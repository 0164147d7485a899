import numpy as np
from custom_components.phantom.body.anatomy import Anatomy
from custom_components.phantom.body.tubes import Tubes

LUMEN_HU, WALL_HU = -985.0, -60.0


def central_airways(anatomy: Anatomy) -> Tubes:
    """Trachea, both main bronchi and the bronchi to the hila; the radius is that of the lumen."""
    carina = np.array(anatomy.carina_mm)
    top = np.array([carina[0] - 1.0, carina[1] - 6.0, 200.0])
    right, left = np.array([-31.0, 12.0, 4.0]), np.array([36.0, 12.0, 0.0])
    ends = (np.array([-39.0, 12.0, -9.0]), np.array([40.0, 12.0, -9.0]))
    starts = np.stack([top, carina, carina, right, left])
    stops = np.stack([carina, right, left, *ends])
    return Tubes(starts, stops, np.array([8.8, 6.5, 6.0, 4.2, 4.0]))


def accompanying_bronchi(arteries: Tubes, smallest_mm: float = 1.1) -> Tubes:
    """Bronchi parallel to the arteries, with a lumen a little narrower than the vessel.

    Args:
        arteries: the arteries of both lungs.
        smallest_mm: thinner arteries have no visible bronchus.

    Returns:
        Tubes with the radius of the lumen.

    Example:
        >>> artery = Tubes(np.zeros((1, 3)), np.array([[0.0, 0.0, 9.0]]), np.array([2.0]))
        >>> bool(accompanying_bronchi(artery).radius_mm < artery.radius_mm)
        True
    """
    wide = arteries.radius_mm > smallest_mm
    starts, stops, radius = arteries.start_mm[wide], arteries.stop_mm[wide], arteries.radius_mm[wide]
    sideways = np.cross(stops - starts, np.array([0.3, 1.0, 0.2]))
    sideways /= np.maximum(np.linalg.norm(sideways, axis=1, keepdims=True), 1e-6)
    shift = sideways * (1.9 * radius + 0.8)[:, None]
    return Tubes(starts + shift, stops + shift, 0.8 * radius)
