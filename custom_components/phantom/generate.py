from collections.abc import Mapping, Sequence

import numpy as np
from custom_components.labels import LESION_CLASSES
from custom_components.phantom.body.anatomy import Anatomy
from custom_components.phantom.body.disease import DISEASES, RARE_SHARE, infected_voxels
from custom_components.phantom.body.grid import Grid
from custom_components.phantom.body.lesions import (
    Chest,
    Lesions,
    check_lesion_volumes,
    place_infection,
    place_lesions,
    random_volumes_ml,
)
from custom_components.phantom.body.lungs import paint_lungs
from custom_components.phantom.body.scanner import AIR_HU, acquire, paint_table
from custom_components.phantom.body.tissue import paint_chest_wall, paint_inner_organs, paint_skeleton
from custom_components.phantom.phantom import ISOCENTRE_MM, Phantom

SLICE_FIELD_MM = 380.0
SLICE_THICKNESS_MM = 5.0
SLICE_LEVELS_MM = (-85.0, 85.0)
HEALTHY_SLICE_CHANCE = 1 / 12
_STREAMS = (
    *("anatomy", "texture", "lungs", "noise", "severity", "section", "level", *LESION_CLASSES),
    *("ratio", "infection"),
)


def make_volume(
    seed: int = 0,
    shape: Sequence[int] = (128, 128, 48),
    spacing_mm: Sequence[float] = (2.8, 2.8, 6.0),
    lesions_ml: Mapping[str, float] | None = None,
) -> Phantom:
    """Generate a synthetic chest CT. The same arguments give the same phantom; global random states are not used.

    The size of the anatomy is fixed in mm; ``shape`` times ``spacing_mm`` is the field of view around its centre.

    Args:
        seed: whole number, 0 or more; another seed is another patient.
        shape: voxels along x, y, z; at least 32 along x and y.
        spacing_mm: voxel size along x, y, z.
        lesions_ml: volume in ml by class name, 0 for other classes; ``None`` draws them from the seed.

    Returns:
        The phantom.

    Raises:
        ValueError: when the arguments do not describe a volume, or a lesion does not fit.

    Example:
        >>> phantom = make_volume(seed=3, shape=(40, 44, 12), spacing_mm=(8.5, 8.0, 24.0), lesions_ml={})
        >>> phantom.image_hu.shape, int(phantom.label.max())
        ((40, 44, 12), 0)
    """
    chest = _chest(seed, Grid.centred(shape, spacing_mm))
    return _phantom(seed, chest, _lesions(seed, chest, lesions_ml, healthy_chance=0.0))


def make_slice(
    seed: int = 0,
    size: Sequence[int] = (192, 192),
    pixel_mm: float | None = None,
    lesions_ml: Mapping[str, float] | None = None,
    level_mm: float | None = None,
) -> Phantom:
    """Generate one axial slice of 5 mm at a random level of the chest; about 1 in 12 has no lesion.

    Args:
        seed: whole number, 0 or more; another seed is another patient.
        size: pixels along x, y; at least 32 each.
        pixel_mm: pixel size; ``None`` makes the longer side 380 mm.
        lesions_ml: volume in ml by class name, 0 for other classes; ``None`` draws them from seed and level.
        level_mm: height above the middle of the chest; ``None`` draws it from the seed. Slices of one seed at
            several levels are of one patient.

    Returns:
        A phantom of shape (X, Y, 1).

    Raises:
        ValueError: when the arguments do not describe a slice, or a lesion does not fit.

    Example:
        >>> make_slice(seed=1, size=(64, 48), lesions_ml={}).spacing_mm
        (5.9375, 5.9375, 5.0)
    """
    step = SLICE_FIELD_MM / max(size) if pixel_mm is None else pixel_mm
    level = float(_stream(seed, "level").uniform(*SLICE_LEVELS_MM)) if level_mm is None else float(level_mm)
    grid = Grid.centred((*size, 1), (step, step, SLICE_THICKNESS_MM), level)
    chest = _chest(seed, grid)
    return _phantom(seed, chest, _lesions(seed, chest, lesions_ml, HEALTHY_SLICE_CHANCE, level), level)


def make_scan(
    disease: str,
    ratio: float | None = None,
    seed: int = 0,
    shape: Sequence[int] = (96, 96, 40),
    spacing_mm: Sequence[float] = (3.9, 3.9, 7.0),
    examination: int = 0,
) -> Phantom:
    """Generate a chest CT of a patient with COVID-19 or with community-acquired pneumonia.

    A seed is a patient, with the same anatomy for both diseases.

    Args:
        disease: ``covid`` or ``cap``; :mod:`custom_components.phantom.body.disease` describes the differences.
        ratio: infection volume / lung volume, above 0; exact to one voxel, and in the same size group. ``None`` draws
            it from the distribution of the disease, including its rare size.
        seed: whole number, 0 or more; another seed is another patient.
        shape: voxels along x, y, z; at least 32 along x and y.
        spacing_mm: voxel size along x, y, z.
        examination: whole number, 0 or more; another examination of the same patient has other lesions and noise.

    Returns:
        The phantom, without effusion.

    Raises:
        ValueError: when the disease is unknown, the arguments do not describe a volume, or the ratio is not possible
            with whole voxels of the lung (for ``cap``, of one lobe).

    Example:
        >>> scan = make_scan("covid", 0.05, seed=1, shape=(40, 44, 14), spacing_mm=(9.0, 8.0, 20.0))
        >>> round(scan.infection_ratio, 2)
        0.05
    """
    if disease not in DISEASES:
        raise ValueError(f"Phantom disease is {disease!r}. Expected one of {', '.join(DISEASES)}.")
    kind = DISEASES[disease]
    source = _stream(seed, "ratio", examination=examination)
    wanted = kind.random_ratio(source, source.random() < RARE_SHARE) if ratio is None else ratio
    chest = _chest(seed, Grid.centred(shape, spacing_mm))
    source = _stream(seed, "infection", examination=examination)
    consolidated = kind.random_consolidated(source)
    score_mm = np.where(chest.cavity_mm > 0, kind.score_mm(chest, source), -np.inf).astype(np.float32)
    room, lung = int(np.isfinite(score_mm).sum()), int((chest.cavity_mm > 0).sum())
    count = infected_voxels(wanted, kind.label, lung, room, f"Phantom of seed {seed}")
    lesions = place_infection(chest, score_mm, count, consolidated, source)
    return _phantom(seed, chest, lesions, examination=examination)


def _chest(seed: int, grid: Grid) -> Chest:
    anatomy = Anatomy.random(_stream(seed, "anatomy"))
    cage = anatomy.cage(grid.points)
    return Chest(grid, anatomy, cage, anatomy.pleural_cavity(grid.points, cage))


def _phantom(seed: int, chest: Chest, lesions: Lesions, level_mm: float = 0.0, examination: int = 0) -> Phantom:
    image = _ideal_image(seed, chest, lesions)
    effusion = lesions.label == LESION_CLASSES.index("pleural_effusion") + 1
    return Phantom(
        image_hu=acquire(image, chest.grid, _stream(seed, "noise", level_mm, examination)),
        label=lesions.label,
        lung=((chest.cavity_mm > 0) & ~effusion).astype(np.uint8),
        spacing_mm=chest.grid.spacing_mm,
        seed=int(seed),
        centre_mm=(ISOCENTRE_MM[0], ISOCENTRE_MM[1], ISOCENTRE_MM[2] + level_mm),
    )


def _ideal_image(seed: int, chest: Chest, lesions: Lesions) -> np.ndarray:
    """The image without blur and noise, painted from outside to inside."""
    image = np.full(chest.grid.shape, AIR_HU, np.float32)
    texture = _stream(seed, "texture")
    paint_table(image, chest)
    paint_chest_wall(image, chest, texture)
    paint_inner_organs(image, chest, texture)
    paint_skeleton(image, chest)
    paint_lungs(image, chest, lesions, _stream(seed, "lungs"))
    return image


def _lesions(
    seed: int, chest: Chest, lesions_ml: Mapping[str, float] | None, healthy_chance: float, level_mm: float = 0.0
) -> Lesions:
    case = f"Phantom of seed {seed}"
    sources = {name: _stream(seed, name) for name in LESION_CLASSES}
    if lesions_ml is not None:
        check_lesion_volumes(lesions_ml, case)
        return place_lesions(chest, lesions_ml, sources, case)
    cavity_ml = float((chest.cavity_mm > 0).sum()) * chest.grid.voxel_ml
    section = _stream(seed, "section", level_mm)
    volumes = random_volumes_ml(_stream(seed, "severity"), section, cavity_ml, healthy_chance)
    return place_lesions(chest, volumes, sources, case, fit=True)


def _stream(seed: int, purpose: str, level_mm: float = 0.0, examination: int = 0) -> np.random.Generator:
    """A separate random generator for each purpose, so that a change of one does not affect the others."""
    for name, number in (("seed", seed), ("examination", examination)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
            raise ValueError(f"Phantom {name} is {number!r}. Expected a whole number, 0 or more.")
    level = round(level_mm * 1000)
    key = [int(seed), _STREAMS.index(purpose), abs(level), int(level < 0)]
    return np.random.default_rng([*key, int(examination)] if examination else key)
