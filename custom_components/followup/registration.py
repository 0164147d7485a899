"""Registration of the lungs of two scans of one patient, with SimpleITK.

The later scan is fixed. Three stages, from coarse to fine, each from the result of the one before:

1. affine transform of the signed distance to the lungs' surface, from the centres of the lungs;
2. displacement field of the same distance by symmetric-forces demons (T. Vercauteren et al., NeuroImage 2009, 45:S61);
3. the same on intensities in the lungs: vessels. Infected voxels of either scan exert no force, so that a lesion that
   grew or resolved does not deform the lung.

Demons, not B-splines: with all voxels as samples, a B-spline in place of stage 2 took longer than all stages together
(docs/compare.md). There is no random sampling, and the number of threads is fixed: the same scans give the same
transform.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import SimpleITK
from custom_components.followup.scan import DiagnosedScan
from scipy.ndimage import binary_dilation, distance_transform_edt

# Least overlap (Dice) of both lung masks after registration for which a change map is drawn.
LEAST_DICE = 0.9

# Voxel size of the first two stages, and the space around the lungs, in mm.
_AFFINE_MM, _SURFACE_MM, _MARGIN_MM = 6.0, 4.0, 24.0
# Distances to the surface are clipped here: the middle of the lungs and the far background are flat.
_FAR_MM = 20.0
# Iterations, and smoothing of the displacement (standard deviation in mm), of demons.
_SURFACE_ITERATIONS, _SURFACE_SMOOTH_MM = 40, 8.0
# The same for vessels, after the voxel size, from coarse to fine.
_VESSEL_STEPS = ((5.0, 40, 9.0), (3.0, 40, 4.5))
# Intensities of vessels, and the value outside the lungs, relative to the median of healthy lung, in HU.
_DARKEST_HU, _BRIGHTEST_HU, _WALL_HU = -100.0, 400.0, 400.0
_THREADS = 2
# Lung voxels whose displacement is measured.
_SAMPLES = 2000


@dataclass(frozen=True)
class Registration:
    """Map from positions of the later scan to those of the earlier one.

    Args:
        transform: SimpleITK transform, RAS mm of the later scan to RAS mm of the earlier scan.
        dice: overlap of both lung masks after registration, 0 to 1.
        moved_mm: median displacement of the later scan's lungs.
    """

    transform: Any
    dice: float
    moved_mm: float

    @property
    def is_plausible(self) -> bool:
        """Whether the lungs overlap enough to compare them voxel by voxel."""
        return self.dice >= LEAST_DICE

    def labels_on_later(self, labels: np.ndarray, earlier: DiagnosedScan, later: DiagnosedScan) -> np.ndarray:
        """Labels of the earlier scan on the grid of the later one.

        Args:
            labels: uint8 (X, Y, Z) of the earlier scan.
            earlier: the earlier scan.
            later: the later scan.

        Returns:
            uint8, shape of the later scan, 0 outside the earlier scan.
        """
        moved = resampled(itk_image(labels, earlier.affine), _reference(later), self.transform, 0, is_label=True)
        return as_array(moved)

    def hu_on_later(self, earlier: DiagnosedScan, later: DiagnosedScan, outside_hu: float = -1024.0) -> np.ndarray:
        """CT of the earlier scan on the grid of the later one, float32, interpolated linearly."""
        image = itk_image(earlier.hu.astype(np.float32, copy=False), earlier.affine)
        return as_array(resampled(image, _reference(later), self.transform, outside_hu))


def register_lungs(later: DiagnosedScan, earlier: DiagnosedScan) -> Registration:
    """Register the lungs of the earlier scan to those of the later one.

    Args:
        later: the fixed scan.
        earlier: the moving scan.

    Returns:
        The registration.

    Raises:
        ValueError: naming the case that has no lungs.
    """
    for scan in (later, earlier):
        if not scan.lungs.any():
            raise ValueError(f"Case {scan.case_id}: no lungs were segmented, so it cannot be compared. Check the scan.")
    own = SimpleITK.Transform(3, SimpleITK.sitkIdentity)
    transform = SimpleITK.CompositeTransform([_affine(later, earlier)])
    grid = _lung_grid(later, _SURFACE_MM)
    surfaces = _surface(later, grid, own), _surface(earlier, grid, transform)
    transform.AddTransform(_demons(*surfaces, _SURFACE_ITERATIONS, _SURFACE_SMOOTH_MM))
    for voxel_mm, iterations, smooth_mm in _VESSEL_STEPS:
        grid = _lung_grid(later, voxel_mm)
        transform.AddTransform(_demons(*_vessels(later, earlier, grid, transform), iterations, smooth_mm))
    return Registration(transform, *_quality(later, earlier, grid, transform))


def itk_image(array: np.ndarray, affine: np.ndarray) -> Any:
    """A SimpleITK image in RAS mm, not ITK's LPS: both scans are used in the same way.

    Args:
        array: voxels (X, Y, Z).
        affine: (4, 4) voxel index to RAS mm.
    """
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing_mm.tolist())
    image.SetDirection((affine[:3, :3] / spacing_mm).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def as_array(image: Any) -> np.ndarray:
    """Voxels (X, Y, Z) of a SimpleITK image."""
    array: np.ndarray = SimpleITK.GetArrayFromImage(image).T
    return array


def resampled(image: Any, grid: Any, transform: Any, outside: float, is_label: bool = False) -> Any:
    """An image on a grid: at each of its points p, the value at ``transform(p)``."""
    return SimpleITK.Resample(
        image, grid, transform, SimpleITK.sitkNearestNeighbor if is_label else SimpleITK.sitkLinear, outside
    )


def _reference(scan: DiagnosedScan) -> Any:
    """Grid of a scan, as an image."""
    return itk_image(scan.lungs, scan.affine)


def _lung_grid(scan: DiagnosedScan, voxel_mm: float) -> Any:
    """Grid of cubic voxels around the lungs of a scan, along the patient's axes."""
    places = [np.flatnonzero(scan.lungs.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    corners = np.array(list(product(*((place[0], place[-1]) for place in places))))
    corners_mm = corners @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    first_mm = corners_mm.min(axis=0) - _MARGIN_MM
    shape = np.ceil((corners_mm.max(axis=0) + _MARGIN_MM - first_mm) / voxel_mm).astype(int) + 1
    affine = np.diag([voxel_mm] * 3 + [1.0])
    affine[:3, 3] = first_mm
    return itk_image(np.zeros(shape, np.uint8), affine)


def _on_grid(mask: np.ndarray, scan: DiagnosedScan, grid: Any, transform: Any) -> np.ndarray:
    """Where more than half of a mask is on a grid, bool (X, Y, Z)."""
    image = itk_image(mask.astype(np.float32), scan.affine)
    return as_array(resampled(image, grid, transform, 0.0)) > 0.5


def _like(array: np.ndarray, grid: Any) -> Any:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T.astype(np.float32)))
    image.CopyInformation(grid)
    return image


def _surface(scan: DiagnosedScan, grid: Any, transform: Any) -> Any:
    """Distance to the lungs' surface in mm, positive inside, clipped."""
    lungs, spacing_mm = _on_grid(scan.lungs != 0, scan, grid, transform), grid.GetSpacing()
    inside, outside = (distance_transform_edt(mask, sampling=spacing_mm) for mask in (lungs, ~lungs))
    return _like(np.clip(inside - outside, -_FAR_MM, _FAR_MM), grid)


def _affine(later: DiagnosedScan, earlier: DiagnosedScan) -> Any:
    """Affine transform from the distances to the surface, each on a grid around its own lungs."""
    own = SimpleITK.Transform(3, SimpleITK.sitkIdentity)
    fixed, moving = (_surface(scan, _lung_grid(scan, _AFFINE_MM), own) for scan in (later, earlier))
    centres = [_centre_mm(image) for image in (fixed, moving)]
    transform = SimpleITK.AffineTransform(3)
    transform.SetCenter(centres[0].tolist())
    transform.SetTranslation((centres[1] - centres[0]).tolist())
    method = SimpleITK.ImageRegistrationMethod()
    method.SetNumberOfThreads(_THREADS)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetMetricAsMeanSquares()
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetMetricFixedMask(SimpleITK.Cast(fixed > -_FAR_MM, SimpleITK.sitkUInt8))
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.02, 100, 0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, True)
    method.Execute(fixed, moving)
    return transform


def _centre_mm(surface: Any) -> np.ndarray:
    """Centre of the lungs, from their distance to the surface."""
    return np.argwhere(as_array(surface) > 0).mean(axis=0) * surface.GetSpacing() + surface.GetOrigin()


def _demons(fixed: Any, moving: Any, iterations: int, smooth_mm: float) -> Any:
    """Displacement field from one image to another, both on the same grid."""
    demons = SimpleITK.FastSymmetricForcesDemonsRegistrationFilter()
    demons.SetNumberOfThreads(_THREADS)
    demons.SetNumberOfIterations(iterations)
    demons.SetStandardDeviations(smooth_mm / fixed.GetSpacing()[0])
    return SimpleITK.DisplacementFieldTransform(
        SimpleITK.Cast(demons.Execute(fixed, moving), SimpleITK.sitkVectorFloat64)
    )


def _vessels(later: DiagnosedScan, earlier: DiagnosedScan, grid: Any, transform: Any) -> tuple[Any, Any]:
    """Intensities in the lungs of both scans on one grid, equal where either is infected."""
    own = SimpleITK.Transform(3, SimpleITK.sitkIdentity)
    places = ((later, own), (earlier, transform))
    fixed, moving = (_intensities(scan, grid, place) for scan, place in places)
    infected = np.logical_or(*(_on_grid(scan.infection != 0, scan, grid, place) for scan, place in places))
    infected = binary_dilation(infected, iterations=2)
    return _like(fixed, grid), _like(np.where(infected, fixed, moving), grid)


def _intensities(scan: DiagnosedScan, grid: Any, transform: Any) -> np.ndarray:
    """Intensities in the lungs relative to healthy lung, in HU; a constant outside the lungs."""
    lungs = _on_grid(scan.lungs != 0, scan, grid, transform)
    hu = as_array(resampled(itk_image(scan.hu.astype(np.float32, copy=False), scan.affine), grid, transform, -1000.0))
    typical = float(np.median(hu[lungs])) if lungs.any() else 0.0
    return np.where(lungs, np.clip(hu - typical, _DARKEST_HU, _BRIGHTEST_HU), _WALL_HU)


def _quality(later: DiagnosedScan, earlier: DiagnosedScan, grid: Any, transform: Any) -> tuple[float, float]:
    """Dice of both lungs after registration, and the median displacement of the later lungs in mm."""
    own = SimpleITK.Transform(3, SimpleITK.sitkIdentity)
    one, other = _on_grid(later.lungs != 0, later, grid, own), _on_grid(earlier.lungs != 0, earlier, grid, transform)
    both, sizes = int(np.count_nonzero(one & other)), [int(np.count_nonzero(mask)) for mask in (one, other)]
    places = np.argwhere(one)[:: max(1, sizes[0] // _SAMPLES)] * grid.GetSpacing() + grid.GetOrigin()
    moved = [np.subtract(transform.TransformPoint(place), place) for place in places.tolist()]
    return 2 * both / max(1, sum(sizes)), float(np.median(np.linalg.norm(moved, axis=1)))
