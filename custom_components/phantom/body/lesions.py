"""The kinds of lesions: their preferred locations, and how a given volume is placed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from custom_components.labels import LESION_CLASSES
from custom_components.phantom.body.anatomy import Anatomy
from custom_components.phantom.body.grid import Grid, random_field

VOLUME_TOLERANCE = 0.05
LEAST_RANDOM_VOXELS = 10
GROUND_GLASS_EDGE_MM, CONSOLIDATION_EDGE_MM = 8.0, 4.0


@dataclass(frozen=True)
class Chest:
    """One patient on a grid.

    Args:
        grid: voxel centres.
        anatomy: measures of the patient.
        cage_mm: signed distance to the inner chest wall at the voxels, positive inside.
        cavity_mm: signed distance to the surface of the pleural cavity at the voxels, positive inside.
    """

    grid: Grid
    anatomy: Anatomy
    cage_mm: np.ndarray
    cavity_mm: np.ndarray


@dataclass(frozen=True)
class LesionKind:
    """One kind of lesion.

    Args:
        score: returns a score of each voxel from the chest and a random generator. A lesion of n voxels is the n
            highest scores, without -inf; a larger lesion contains a smaller one.
        edge: difference of the score over which the border fades.
        random_fraction: range of the share of the pleural cavity in a random patient.
        random_chance: probability that a random patient has this lesion.
    """

    score: Callable[[Chest, np.random.Generator], np.ndarray]
    edge: float
    random_fraction: tuple[float, float]
    random_chance: float


@dataclass(frozen=True)
class Lesions:
    """Placed lesions.

    Args:
        label: 0 background, else 1 + the index in ``LESION_CLASSES``; uint8, shape (X, Y, Z).
        opacity: opacity of the lesion in each voxel, [0, 1] with about 0.5 at its border, by class name.
    """

    label: np.ndarray
    opacity: dict[str, np.ndarray]


def _side_preference(chest: Chest, rng: np.random.Generator, strength: float) -> np.ndarray:
    right, left = rng.uniform(-strength, strength, size=2)
    return np.where(chest.grid.points.x < 0, right, left).astype(np.float32)


def ground_glass_score(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Patches of several sizes, mostly under the pleura, a little more at the back and the base."""
    points = chest.grid.points
    patches = random_field(points, rng, 26.0) + 0.55 * random_field(points, rng, 10.0)
    patches += 0.16 * random_field(points, rng, 3.5)
    peripheral = 1.5 * np.exp(-np.maximum(chest.cage_mm, 0.0) / 18.0)
    return patches + peripheral + points.y / 130.0 - points.z / 220.0 + _side_preference(chest, rng, 0.5)


def consolidation_score(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """Dense areas in the dependent lung, at the back and the base, that reach the pleura."""
    points = chest.grid.points
    patches = 0.7 * random_field(points, rng, 20.0) + 0.3 * random_field(points, rng, 7.0)
    patches += 0.12 * random_field(points, rng, 3.0)
    peripheral = 1.6 * np.exp(-np.maximum(chest.cage_mm, 0.0) / 14.0)
    return patches + peripheral + points.y / 45.0 - points.z / 110.0 + _side_preference(chest, rng, 0.8)


def pleural_effusion_score(chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """A crescent along the posterior wall of the pleural cavity, thicker towards the base, with a concave front."""
    points = chest.grid.points
    behind = np.clip((points.y + 15.0) / (chest.anatomy.cage_mm[1] + 15.0), 0.0, None)
    basal = np.exp(-np.maximum(points.z + 100.0, 0.0) / 120.0)
    ripple = 0.035 * random_field(points, rng, 16.0)
    score = behind**1.5 * basal * (1.0 + 0.35 * _side_preference(chest, rng, 1.0)) - chest.cage_mm / 48.0 + ripple
    return np.where((points.y > -10.0) & (chest.cage_mm < 48.0), score, -np.inf).astype(np.float32)


# The kinds in the order in which they are placed: fluid first, then lesions of the remaining lung.
LESION_KINDS: dict[str, LesionKind] = {
    "pleural_effusion": LesionKind(pleural_effusion_score, 0.02, (0.006, 0.09), 0.4),
    "consolidation": LesionKind(consolidation_score, 0.12, (0.006, 0.11), 0.65),
    "ground_glass": LesionKind(ground_glass_score, 0.5, (0.01, 0.25), 0.92),
}


def check_lesion_volumes(lesions_ml: Mapping[str, float], case: str) -> None:
    """Check names and volumes in ml of lesions.

    Raises:
        ValueError: names the case, the class and what was expected.
    """
    unknown = sorted(set(lesions_ml) - set(LESION_KINDS))
    if unknown:
        raise ValueError(f"{case}: unknown lesion {unknown[0]!r}. Expected one of {', '.join(LESION_CLASSES)}.")
    for name, volume_ml in lesions_ml.items():
        if not np.isfinite(volume_ml) or volume_ml < 0:
            raise ValueError(f"{case}: {name} of {volume_ml} ml requested. Expected a volume of 0 ml or more.")


def random_volumes_ml(
    patient: np.random.Generator, section: np.random.Generator, cavity_ml: float, healthy_chance: float
) -> dict[str, float]:
    """Draw the volume of each lesion.

    Args:
        patient: random generator for the severity of the patient's disease.
        section: random generator for the differences between sections of one patient.
        cavity_ml: volume of the pleural cavity in ml.
        healthy_chance: probability that a section has no lesion.

    Returns:
        Volume in ml by class name; upper bounds, since a section may have less space.
    """
    volumes = {}
    for name, kind in LESION_KINDS.items():
        low, high = np.log(kind.random_fraction)
        present = patient.random() < kind.random_chance
        fraction = np.exp(patient.uniform(low, high) + section.uniform(-0.3, 0.3))
        volumes[name] = cavity_ml * float(fraction) if present else 0.0
    if section.random() < healthy_chance:
        return dict.fromkeys(volumes, 0.0)
    if not any(volumes.values()):
        volumes["ground_glass"] = 0.05 * cavity_ml
    return volumes


def place_lesions(
    chest: Chest, volumes_ml: Mapping[str, float], rngs: Mapping[str, np.random.Generator], case: str, fit: bool = False
) -> Lesions:
    """Place each kind of lesion on the voxels of the pleural cavity with the highest scores.

    Args:
        chest: the patient.
        volumes_ml: volume in ml by class name; 0 for other classes.
        rngs: random generator by class name.
        case: name of the phantom, for messages.
        fit: whether to reduce a volume to the available space instead of an error.

    Returns:
        The lesions; voxels of effusion are no longer lung.

    Raises:
        ValueError: when a volume does not fit; names the largest possible one.
    """
    label = np.zeros(chest.grid.shape, np.uint8)
    opacity = {}
    free = np.broadcast_to(chest.cavity_mm > 0, chest.grid.shape).copy()
    for name, kind in LESION_KINDS.items():
        volume_ml = volumes_ml.get(name, 0.0)
        if volume_ml == 0:
            continue
        score = np.where(free, kind.score(chest, rngs[name]), -np.inf)
        room = int(np.isfinite(score).sum())
        if fit:
            count = _fitting_count(volume_ml, room, chest.grid)
        else:
            count = _exact_count(volume_ml, room, chest.grid, case, name)
        if count == 0:
            continue
        taken = _highest(score, count)
        label[taken] = _value(name)
        free &= ~taken
        opacity[name] = _opacity(score, float(score[taken].min()), kind.edge)
    return Lesions(label, opacity)


def place_infection(
    chest: Chest, score_mm: np.ndarray, count: int, consolidated: float, rng: np.random.Generator
) -> Lesions:
    """Infect the voxels with the highest scores: ground-glass with consolidation inside.

    Args:
        chest: the patient.
        score_mm: score of each voxel, -inf where infection is not possible.
        count: number of infected voxels, at most the number of finite scores.
        consolidated: share of consolidation, 0 to 1.
        rng: random generator for the border between the two.

    Returns:
        The lesions; those of a larger ``count`` contain those of a smaller one.
    """
    core_mm = score_mm + 4.0 * random_field(chest.grid.points, rng, 9.0)
    infected = _highest(score_mm, count)
    dense = _highest(np.where(infected, core_mm, -np.inf), round(consolidated * count))
    label = np.where(infected, _value("ground_glass"), 0).astype(np.uint8)
    label[dense] = _value("consolidation")
    opacity = {"ground_glass": _opacity(score_mm, float(score_mm[infected].min()), GROUND_GLASS_EDGE_MM)}
    if dense.any():
        inner = _opacity(core_mm, float(core_mm[dense].min()), CONSOLIDATION_EDGE_MM)
        opacity["consolidation"] = np.minimum(inner, opacity["ground_glass"])
    return Lesions(label, opacity)


def _value(name: str) -> int:
    return LESION_CLASSES.index(name) + 1


def _highest(score: np.ndarray, count: int) -> np.ndarray:
    """Mask of the ``count`` highest scores, ties broken by position."""
    chosen = np.zeros(score.size, bool)
    chosen[np.argsort(-score, axis=None, kind="stable")[:count]] = True
    return chosen.reshape(score.shape)


def _opacity(score: np.ndarray, threshold: float, edge: float) -> np.ndarray:
    rise = np.clip((score - threshold) / edge + 0.5, 0.0, 1.0)
    return (rise * rise * (3.0 - 2.0 * rise)).astype(np.float32)


def _fitting_count(volume_ml: float, room: int, grid: Grid) -> int:
    most = int(0.6 * room)
    return min(max(round(volume_ml / grid.voxel_ml), LEAST_RANDOM_VOXELS), most) if most >= LEAST_RANDOM_VOXELS else 0


def _exact_count(volume_ml: float, room: int, grid: Grid, case: str, name: str) -> int:
    count = round(volume_ml / grid.voxel_ml)
    if count > room:
        raise ValueError(
            f"{case}: {volume_ml:g} ml of {name} requested, but the largest possible volume is "
            f"{room * grid.voxel_ml:.1f} ml. Use a smaller volume, or a larger field of view."
        )
    if abs(count * grid.voxel_ml - volume_ml) > VOLUME_TOLERANCE * volume_ml:
        raise ValueError(
            f"{case}: {volume_ml:g} ml of {name} requested, which is not possible within {VOLUME_TOLERANCE:.0%} with "
            f"whole voxels of {grid.voxel_ml:g} ml. Use {0.5 * grid.voxel_ml / VOLUME_TOLERANCE:g} ml or more, or a "
            "smaller spacing."
        )
    return count
