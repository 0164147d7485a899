"""What distinguishes COVID-19 from community-acquired pneumonia (CAP) in a phantom.

=============  ==========================================  ==============================================
               COVID-19                                    CAP
=============  ==========================================  ==============================================
site           mostly both lungs, below the pleura,        one lobe, along the bronchi from the hilum
               often in the back and the base              towards the pleura
shape          several rounded patches                     one patch that grows into a wedge
density        ground-glass, with some consolidation       consolidation with a rim of ground-glass
               in half of the patients
usual size     3 % of the lung and more                    below 1 / 1000 of the lung
rare size      below 3 %                                   above 1 / 1000
=============  ==========================================  ==============================================

Sizes are those of the groups in Ouyang et al. 2020, Sec. III-C. No single sign separates the diseases: their ranges of
size and consolidated share overlap.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from custom_components.infection_size import CAP, CLASS_NAMES, COVID, size_group
from custom_components.phantom.body.anatomy import Anatomy
from custom_components.phantom.body.grid import Points, random_field
from custom_components.phantom.body.lesions import Chest
from custom_components.phantom.body.shapes import ellipsoid
from custom_components.phantom.body.vessels import points_in_lung

# Share of the scans of each disease with lesions of the rare size.
RARE_SHARE = 0.3

# Probability that COVID-19 is in one lung only.
ONE_SIDED_CHANCE = 0.12

# Position where the bronchi enter the left lung; mirrored for the right lung.
HILUM_MM = (40.0, 8.0, 2.0)

_CANDIDATES = 120


@dataclass(frozen=True)
class Disease:
    """One of the two diseases.

    Args:
        label: class, 1 for COVID-19, 0 for CAP.
        usual_ratio: range of infection volume / lung volume in most scans.
        rare_ratio: the same in the scans of the other size group.
        consolidated: range of the consolidated share of the infection; values below 0 become 0.
        score_mm: returns a score of each voxel: infection fills the highest scores first, and never -inf. The score
            decreases by about 1 per mm outwards.
    """

    label: int
    usual_ratio: tuple[float, float]
    rare_ratio: tuple[float, float]
    consolidated: tuple[float, float]
    score_mm: Callable[[Chest, np.random.Generator], np.ndarray]

    def random_ratio(self, rng: np.random.Generator, rare: bool) -> float:
        """Draw infection volume / lung volume, log-uniform in the usual or the rare range."""
        low, high = np.log(self.rare_ratio if rare else self.usual_ratio)
        return float(np.exp(rng.uniform(low, high)))

    def random_consolidated(self, rng: np.random.Generator) -> float:
        """Draw the consolidated share of the infection, 0 to 1."""
        return max(0.0, float(rng.uniform(*self.consolidated)))


def covid_score_mm(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Rounded patches of several sizes, flattened against the chest wall; sometimes in one lung only."""
    points = chest.grid.points
    score = np.full(chest.grid.shape, -np.inf, np.float32)
    one_sided = rng.random() < ONE_SIDED_CHANCE
    for side in (float(rng.choice((-1.0, 1.0))),) if one_sided else (-1.0, 1.0):
        for centre in _subpleural_points(chest.anatomy, rng, side, int(rng.integers(3, 7))):
            radius = rng.uniform(10.0, 20.0)
            score = np.maximum(score, ellipsoid(points, centre, (radius, radius, radius)))
    uneven = 4.0 * random_field(points, rng, 13.0) + 2.0 * random_field(points, rng, 5.0)
    return score + uneven - 0.35 * np.maximum(chest.cage_mm, 0.0)


def _subpleural_points(anatomy: Anatomy, rng: np.random.Generator, side: float, count: int) -> np.ndarray:
    """Positions in one lung, (count, 3) mm, more likely near the chest wall, back and base."""
    tries = points_in_lung(anatomy, rng, side, _CANDIDATES)
    depth = anatomy.cage(Points(*tries.T))
    preference = -depth / 7.0 + tries[:, 1] / 50.0 - tries[:, 2] / 80.0 + rng.gumbel(size=len(tries))
    return tries[np.argsort(-preference)[:count]]


def cap_score_mm(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """A patch between hilum and pleura that grows into a wedge inside one lobe."""
    points = chest.grid.points
    side, lower = float(rng.choice((-1.0, 1.0))), bool(rng.random() < 0.6)
    hilum = np.array(HILUM_MM) * (side, 1.0, 1.0)
    axis = _outer_point(chest.anatomy, rng, side, lower) - hilum
    length = float(np.linalg.norm(axis))
    offsets = [position - start for position, start in zip(points, hilum, strict=True)]
    along = sum(offset * part for offset, part in zip(offsets, axis / length, strict=True))
    across = np.sqrt(np.maximum(sum(offset * offset for offset in offsets) - along * along, 0.0))
    width = 0.3 + 1.0 * np.clip(along / length, 0.0, 1.0)
    middle, stretch = length * rng.uniform(0.25, 0.95), rng.uniform(1.2, 2.2)
    uneven = 3.0 * random_field(points, rng, 13.0) + 1.5 * random_field(points, rng, 5.0)
    score = uneven - np.hypot((along - middle) / stretch, across / width)
    lobe = (_below_fissure_mm(points.y, points.z) > 0) == lower
    return np.where(lobe & (side * (points.x - chest.anatomy.septum_mm) > 0), score, -np.inf)


def _outer_point(anatomy: Anatomy, rng: np.random.Generator, side: float, lower: bool) -> np.ndarray:
    """A position below the chest wall in the lower or the upper lobe, (3,) mm."""
    tries = points_in_lung(anatomy, rng, side, _CANDIDATES)
    below = _below_fissure_mm(tries[:, 1], tries[:, 2])
    elsewhere = (below if lower else -below) < 10.0
    depth = anatomy.cage(Points(*tries.T)) + rng.uniform(0.0, 25.0, size=len(tries))
    return tries[np.argmin(depth + 1000.0 * elsewhere)]


def _below_fissure_mm(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Distance to the oblique plane between the lobes; positive in the lower lobe."""
    return 0.8 * (y - 10.0) - 0.6 * z


# The diseases by class name.
DISEASES = {
    CLASS_NAMES[COVID]: Disease(COVID, (0.031, 0.30), (0.004, 0.028), (-0.5, 0.5), covid_score_mm),
    CLASS_NAMES[CAP]: Disease(CAP, (0.0004, 0.0009), (0.002, 0.12), (0.1, 0.9), cap_score_mm),
}


def infected_voxels(ratio: float, label: int, lung: int, room: int, case: str) -> int:
    """Number of voxels with the share of the lung that is nearest to a ratio and in the same size group.

    Args:
        ratio: infection volume / lung volume, above 0.
        label: class, 1 for COVID-19, 0 for CAP.
        lung: voxels of the lung.
        room: voxels that can be infected.
        case: name of the phantom, for messages.

    Returns:
        Number of voxels, 1 to ``room``.

    Raises:
        ValueError: when the ratio is not possible with whole voxels.

    Example:
        >>> infected_voxels(0.0009, CAP, lung=1700, room=1700, case="1")
        1
    """
    if not 0 < ratio <= 1:
        raise ValueError(
            f"{case}: infection ratio is {ratio}. Expected infection volume / lung volume, above 0 and at most 1."
        )
    exact = ratio * lung
    nearest = sorted((math.floor(exact), math.ceil(exact)), key=lambda count: abs(count - exact))
    group = size_group(label, ratio)
    fitting = [count for count in nearest if 1 <= count <= lung and size_group(label, count / lung) == group]
    if exact < 0.5 or not fitting:
        raise ValueError(
            f"{case}: an infection ratio of {ratio:g} is {exact:.2f} of {lung} lung voxels. No whole number of voxels "
            f"gives this ratio in the group {group}. Use a smaller spacing, or another ratio."
        )
    if fitting[0] > room:
        raise ValueError(
            f"{case}: infection ratio is {ratio:g}, but the largest possible for {CLASS_NAMES[label]} is "
            f"{math.floor(1000 * room / lung) / 1000:.3f}. Use a smaller ratio, or another seed."
        )
    return fitting[0]
