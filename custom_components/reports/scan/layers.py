"""8-bit volumes of one scan for its viewer: the CT, and masks and maps as layers over it."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import nibabel as nib
import numpy as np
from custom_components.images.nifti import placed_image
from custom_components.labels import LESION_CLASSES
from custom_components.pictures.overlay import (
    HEAT_COLORMAP,
    HEAT_OPACITY,
    INFECTION_COLOUR,
    LESION_COLOURS,
    LUNG_COLOUR,
)
from custom_components.reports.scan.findings import ScanFindings

# Limits of a volume in the viewer, in voxels along x, y and z.
MOST_VOXELS = (256, 256, 512)

# HU of the stored values 0..255: -1024 to 1016.
LOWEST_HU, STEP_HU = -1024, 8
# Inside and border of a mask; the stored steps of an attention of 1.
INSIDE, BORDER, ATTENTION_STEPS = 1, 2, 63

_LEVEL = 1  # of gzip: level 6 takes three times as long and saves 2 %
_LABEL_MAX = 3  # of labels; 3 divides 255, so that each label has its own colour
_LUNGS_IN_3D = 0.25  # of the opacity on slices: their surface hides what is inside

Colours = dict[str, list[int]]


@dataclass(frozen=True)
class Layer:
    """A mask or map over the CT.

    Attributes:
        name: identifier.
        text: name for people.
        colour: RGB 0..255 of its legend.
        volume: gzip-compressed NIfTI, uint8.
        most: value with the last colour.
        colours: red, green, blue (``R``, ``G``, ``B``) and whether visible (``A``, 0 or 255) at the intensities ``I``,
            of which 255 is the value ``most``.
        is_heat: whether the opacity increases with the square of the value.
        opacity: initial opacity, 0 to 1.
        opacity_3d: factor of the opacity in the 3D view.
        is_shown: whether it is shown at first.
    """

    name: str
    text: str
    colour: tuple[int, int, int]
    volume: bytes
    most: int
    colours: Colours
    is_heat: bool
    opacity: float
    opacity_3d: float
    is_shown: bool


class ReducedGrid:
    """The CT's grid in RAS orientation, by whole factors small enough for the viewer.

    Args:
        affine: voxel index to RAS mm, shape (4, 4).
        shape: shape (X, Y, Z) of the file's arrays.

    Attributes:
        factors: voxels of the CT per voxel along x, y and z.
        affine: voxel index of the reduced grid to RAS mm.
        extent: the reduced grid in voxels of the CT; up to ``factors - 1`` more than the CT has.

    Example:
        >>> grid = ReducedGrid(np.diag([-0.5, -0.5, 2.0, 1.0]), (512, 511, 300))
        >>> grid.factors, grid.extent, np.diag(grid.affine).tolist()
        ((2, 2, 1), (512, 512, 300), [1.0, 1.0, 2.0, 1.0])
    """

    def __init__(self, affine: np.ndarray, shape: Sequence[int]) -> None:
        self._turn = nib.io_orientation(affine)
        order = np.argsort(self._turn[:, 0])
        sizes = [shape[axis] for axis in order]
        x, y, z = (-(-size // most) for size, most in zip(sizes, MOST_VOXELS, strict=True))
        self.factors = (max(x, y), max(x, y), z)
        self.extent = tuple(size + -size % factor for size, factor in zip(sizes, self.factors, strict=True))
        to_ras = affine @ nib.orientations.inv_ornt_aff(self._turn, shape)
        centred = np.diag([*self.factors, 1.0])
        centred[:3, 3] = (np.array(self.factors) - 1) / 2
        self.affine: np.ndarray = to_ras @ centred

    def means(self, array: np.ndarray) -> np.ndarray:
        """Mean of each block of voxels; past the end of an array, its last voxels are repeated.

        Args:
            array: float32, in the file's orientation.

        Returns:
            float32, shape of the reduced grid.
        """
        parts = self._parts(array)
        total = parts[0].copy(order="K")  # memory in the order of the file is fast
        for part in parts[1:]:
            total += part
        return total / np.float32(len(parts))

    def labels(self, array: np.ndarray, values: Sequence[int]) -> np.ndarray:
        """Most frequent value of each block where at least half of it is labelled, uint8; others are 0."""
        parts = self._parts(array)
        most, labelled = (np.zeros_like(parts[0], dtype=np.uint16) for _ in range(2))
        best = np.zeros_like(parts[0])
        for value in values:
            count = np.zeros_like(most)
            for part in parts:
                count += part == value
            np.copyto(best, np.uint8(value), where=count > most)
            np.maximum(most, count, out=most)
            labelled += count
        return best * (2 * labelled >= len(parts))

    def _parts(self, array: np.ndarray) -> list[np.ndarray]:
        """Views with one voxel of each block."""
        turned = nib.apply_orientation(array, self._turn)
        beyond = [(0, -size % factor) for size, factor in zip(turned.shape, self.factors, strict=True)]
        whole = np.pad(turned, beyond, mode="edge") if np.any(beyond) else turned
        x, y, z = self.factors
        return [whole[i::x, j::y, k::z] for i, j, k in np.ndindex(x, y, z)]

    def volume(self, values: np.ndarray, slope: float = 1, intercept: float = 0) -> bytes:
        """A gzip-compressed NIfTI file.

        Args:
            values: uint8, shape of the reduced grid.
            slope: step of the values.
            intercept: what a value of 0 means.
        """
        header = placed_image(values, self.affine).header.copy()
        header.set_slope_inter(slope, intercept)
        header["magic"], header["vox_offset"] = b"n+1", header.sizeof_hdr + 4
        content = header.binaryblock + bytes(4) + values.tobytes("F")
        return gzip.compress(content, _LEVEL, mtime=0)


def ct_volume(image_hu: np.ndarray, grid: ReducedGrid) -> bytes:
    """The CT in 8 bits, as a gzip-compressed NIfTI file whose scaled values are HU."""
    steps = (grid.means(image_hu) - LOWEST_HU) / STEP_HU
    return grid.volume(np.clip(steps, 0, 255).round().astype(np.uint8), STEP_HU, LOWEST_HU)


def layers_of(findings: ScanFindings, grid: ReducedGrid) -> list[Layer]:
    """Layers of a scan, in the order in which they are drawn: lungs, infection, lesion classes, attention.

    Args:
        findings: findings of the scan.
        grid: grid of the layers.

    Returns:
        The available layers.
    """
    outlined = grid.volume(_outlined(grid.labels(findings.lungs, (1, 2))))
    layers = [_mask("lungs", "lungs", LUNG_COLOUR, outlined, mask_colours(LUNG_COLOUR), 0.7, _LUNGS_IN_3D)]
    if findings.infection is not None:
        is_filled = findings.lesions is None  # else the classes have the colour
        layers.append(infection_layer(findings.infection, grid, is_filled))
    if findings.lesions is not None:
        colours = [LESION_COLOURS[name] for name in LESION_CLASSES]
        layers.append(label_layer("lesions", "lesion classes", findings.lesions, colours, grid))
    for name, values in (("US", findings.attention_us), ("SS", findings.attention_ss)):
        if values is not None:
            layers.append(_attention(grid, name, values))
    return layers


def infection_layer(infection: np.ndarray, grid: ReducedGrid, is_filled: bool = False) -> Layer:
    """Infection with its outline, and filled if nothing else has the colour.

    Args:
        infection: nonzero inside, in the file's orientation.
        grid: grid of the layer.
        is_filled: whether its inside is visible too.
    """
    outlined = grid.volume(_outlined(grid.labels((infection != 0).astype(np.uint8), (1,))))
    colours, opacity = mask_colours(INFECTION_COLOUR, is_filled), 0.5 if is_filled else 0.9
    return _mask("infection", "infection", INFECTION_COLOUR, outlined, colours, opacity)


def label_layer(
    name: str, text: str, labels: np.ndarray, colours: Sequence[tuple[int, int, int]], grid: ReducedGrid
) -> Layer:
    """A map of the labels 1, 2 and 3.

    Args:
        name: identifier.
        text: name for people.
        labels: uint8, in the file's orientation.
        colours: RGB 0..255 of each label.
        grid: grid of the layer.
    """
    volume = grid.volume(grid.labels(labels, range(1, _LABEL_MAX + 1)))
    return _mask(name, text, colours[0], volume, label_colours(colours), 0.45)


def _mask(
    name: str,
    text: str,
    colour: tuple[int, int, int],
    volume: bytes,
    colours: Colours,
    opacity: float,
    opacity_3d: float = 1.0,
) -> Layer:
    return Layer(name, text, colour, volume, _LABEL_MAX, colours, False, opacity, opacity_3d, True)


def _attention(grid: ReducedGrid, name: str, values: np.ndarray) -> Layer:
    stored = (np.clip(grid.means(values), 0, 1) * ATTENTION_STEPS).round().astype(np.uint8)
    volume, heat = grid.volume(stored, 1 / ATTENTION_STEPS), heat_colours()
    colour = (heat["R"][-4], heat["G"][-4], heat["B"][-4])
    return Layer(
        f"attention_{name.lower()}", f"attention {name}", colour, volume, 1, heat, True, HEAT_OPACITY, 1.0, False
    )


def mask_colours(colour: tuple[int, int, int], is_filled: bool = False) -> Colours:
    """Colormap of a mask with its border.

    Args:
        colour: RGB 0..255.
        is_filled: whether ``INSIDE`` is visible too.

    Example:
        >>> mask_colours((9, 8, 7))["A"], mask_colours((9, 8, 7), is_filled=True)["A"]
        ([0, 0, 255, 255], [0, 255, 255, 255])
    """
    return {**label_colours([colour] * _LABEL_MAX), "A": [0, 255 * is_filled, 255, 255]}


def label_colours(colours: Sequence[tuple[int, int, int]]) -> Colours:
    """Colormap of the labels 1, 2 and 3, opaque; 0 is transparent."""
    red, green, blue = (list(channel) for channel in zip((0, 0, 0), *colours, strict=True))
    return {"R": red, "G": green, "B": blue, "A": [0, 255, 255, 255], "I": [0, 85, 170, 255]}


def heat_colours() -> Colours:
    """Colormap of the attention, 0 to 1: as in the report, brighter where it is higher."""
    places = np.linspace(0, 255, 16).round().astype(int)
    rgb = (matplotlib.colormaps[HEAT_COLORMAP](places)[:, :3] * 255).round().astype(int)
    channels = {name: rgb[:, index].tolist() for index, name in enumerate("RGB")}
    return {**channels, "A": [0] + [255] * (len(places) - 1), "I": places.tolist()}


def _outlined(mask: np.ndarray) -> np.ndarray:
    """``INSIDE`` and ``BORDER`` of each label on its axial slice, uint8; the edge of the scan is no border."""
    is_border = np.zeros_like(mask, dtype=bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = mask[one] != mask[other]
        is_border[one] |= differs
        is_border[other] |= differs
    return (mask != 0) * np.where(is_border, np.uint8(BORDER), np.uint8(INSIDE))
