from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from custom_components.images.case_id import case_id
from custom_components.images.geometry import check_on_image
from custom_components.labels import LUNG_WINDOW_HU
from custom_components.transforms.align_masks import binary_mask
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TraceKeys
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

# The paper's input size and voxel size along z, y, x.
GRID = (138, 256, 256)
SPACING_MM = (1.25, 0.7168, 0.7168)
# The paper's scale factor, one for all axes.
MAX_SCALE = 0.5

# The grid's axes: z to Superior, y to Posterior, x to the patient's Left.
AXCODES = "SPL"

LINEAR, NEAREST = "bilinear", "nearest"
# Masks are sampled at points shifted by this much, so that a point midway between two voxels does not depend on the
# storage order.
TIE_VOXELS = 1e-3


class PaperGridd(MapTransform, InvertibleTransform):
    """Resample CT and masks to the paper's grid, window and lung-mask the CT (Ouyang et al. 2020); invertible.

    The paper resamples to 0.7168 x 0.7168 x 1.25 mm, scales all axes by one factor of about one half, and zero-pads to
    138 x 256 x 256. Here the final grid, centred on the scan, is sampled in one step: the CT linearly, masks by the
    nearest voxel. Then HU are clipped to the window, scaled to [0, 1] and multiplied by the lung mask, so that
    everything outside the lungs or the scan is 0. The grid has the axes of the scan, also if they are oblique; a mask
    may be stored in another orientation than the CT.

    Departs from the paper: the factor is below one half if the scan would not fit (a field of view of 384 mm is 268
    voxels wide at one half), so nothing is ever cropped; intermediate sizes are not rounded.

    A lesion smaller than a grid voxel (2.5 x 1.43 x 1.43 mm at one half) may vanish from its mask; measure its volume
    on the native grid. Because the grid has the scan's axes, NumPy samples axis by axis: 0.5 to 0.8 CPU seconds for
    512 x 512 x 300 voxels; MONAI's SpatialResample needs 3 to 4 (docs/bench_paper_grid.py).

    The inverse resamples an image on the grid, such as an attention map with any number of channels, to the array of
    the scan: masks by the nearest voxel, others linearly (unless ``Invertd`` has ``nearest_interp``). It does not undo
    window and lung mask.

    Args:
        image_key: the CT in HU, MetaTensor of shape (1, X, Y, Z), stored in any orientation.
        lung_key: the lung mask, 0/1 (2 counts as 1) or 0/255, MetaTensor of shape (1, X, Y, Z).
        mask_keys: further masks, 0/1 or 0/255, in the same form.
        grid: voxels of the grid along z, y, x.
        spacing_mm: voxel size along z, y, x before scaling.
        max_scale: largest factor, in (0, 1]; voxels of the grid are ``spacing_mm`` / factor wide.
        window_hu: HU that become 0 and 1 (level -600, width 1500).
        allow_missing_masks: whether ``mask_keys`` may be absent or None; the lung mask may not.

    Raises:
        ValueError: at once when grid or window are not valid; on call, naming the case, when an image is missing or
            is not one volume with an affine, or a mask is not aligned with its CT.

    Example:
        >>> image = MetaTensor(torch.full((1, 20, 24, 16), -600.0), affine=torch.diag(torch.tensor([-2.0, -2, 5, 1])))
        >>> lung = MetaTensor(torch.ones(1, 20, 24, 16), affine=image.affine)
        >>> item = PaperGridd(grid=(40, 36, 32))({"image": image, "lung": lung})
        >>> item["image"].shape, item["image"].max().item(), item["image"].pixdim.numpy().round(4).tolist()
        (torch.Size([1, 40, 36, 32]), 0.5, [2.5, 1.4336, 1.4336])
    """

    def __init__(
        self,
        image_key: str = "image",
        lung_key: str = "lung",
        mask_keys: Sequence[str] = ("infection",),
        grid: Sequence[int] = GRID,
        spacing_mm: Sequence[float] = SPACING_MM,
        max_scale: float = MAX_SCALE,
        window_hu: Sequence[float] = LUNG_WINDOW_HU,
        allow_missing_masks: bool = True,
    ) -> None:
        self.mask_keys = (mask_keys,) if isinstance(mask_keys, str) else tuple(mask_keys)
        super().__init__((image_key, lung_key, *self.mask_keys))
        _check_grid(grid, spacing_mm, max_scale)
        _check_window(window_hu)
        self.image_key, self.lung_key = image_key, lung_key
        self.grid = tuple(int(size) for size in grid)
        self.spacing_mm = tuple(float(step) for step in spacing_mm)
        self.max_scale = float(max_scale)
        self.window_hu = tuple(float(value) for value in window_hu)
        self.allow_missing_masks = allow_missing_masks

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample one item to the grid.

        Args:
            data: CT, lung mask and other masks by their keys; anything else passes through.

        Returns:
            The item with the CT as float32 in [0, 1] and the masks as uint8, each a MetaTensor of shape (1, D, H, W)
            with the grid's affine.
        """
        item = dict(data)
        case = str(item.get("case_id") or case_id(item))
        masks = [key for key in self.mask_keys if not (self.allow_missing_masks and item.get(key) is None)]
        volumes = {key: _volume(item, key, case) for key in (self.image_key, self.lung_key, *masks)}
        image = volumes.pop(self.image_key)
        volumes = {key: binary_mask(mask, key == self.lung_key) for key, mask in volumes.items()}
        affine = self._affine(image.shape[1:], image.affine.numpy())
        for key, mask in volumes.items():
            check_on_image(mask, image, key, case)
            item[key] = self._place(_onto(mask, affine, self.grid, NEAREST).astype(np.uint8), mask, affine, NEAREST)
        masked = self._window(_onto(image, affine, self.grid, LINEAR)) * item[self.lung_key][0].numpy()
        item[self.image_key] = self._place(masked, image, affine, LINEAR)
        return item

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample images from the grid to the arrays they came from.

        Args:
            data: any of the keys, MetaTensors of shape (C, D, H, W) with the trace of this transform.

        Returns:
            The item with images of shape (C, X, Y, Z) and the affine of the scan; float32 if sampled linearly.

        Raises:
            ValueError: when an image is not of the grid's size.
        """
        item = dict(data)
        for key in (key for key in self.keys if key in item):
            item[key] = self._back(item[key], key)
        return item

    def _affine(self, shape: Sequence[int], affine: np.ndarray) -> np.ndarray:
        return paper_affine(shape, affine, self.grid, self.spacing_mm, self.max_scale)

    def _window(self, hu: np.ndarray) -> np.ndarray:
        low, high = self.window_hu
        return np.clip((hu - np.float32(low)) / np.float32(high - low), 0, 1)

    def _place(self, array: np.ndarray, source: MetaTensor, affine: np.ndarray, mode: str) -> MetaTensor:
        """Give an array on the grid the metadata of its source, and the trace that the inverse needs."""
        placed = MetaTensor(torch.from_numpy(array)[None]).copy_meta_from(source)
        placed.affine = torch.as_tensor(affine)
        extra = {"mode": mode, "affine": source.affine.clone()}
        return self.push_transform(placed, orig_size=tuple(source.shape[1:]), extra_info=extra)

    def _back(self, volume: MetaTensor, key: Hashable) -> MetaTensor:
        if tuple(volume.shape[1:]) != self.grid:
            raise ValueError(
                f"Case {case_id(volume)}: {key} is {_size(volume.shape[1:])}. Expected the grid's {_size(self.grid)}: "
                "upsample the map to the size of the network's input first."
            )
        trace = self.pop_transform(volume)
        mode = trace[TraceKeys.EXTRA_INFO]["mode"]
        affine = np.asarray(trace[TraceKeys.EXTRA_INFO]["affine"], dtype=np.float64)
        shape = tuple(int(size) for size in trace[TraceKeys.ORIG_SIZE])
        index = np.linalg.inv(_nudged(self._affine(shape, affine), mode)) @ affine
        arrays = [sample(channel, index, shape, mode) for channel in _numpy(volume)]
        back = MetaTensor(torch.from_numpy(np.stack(arrays)).to(volume.device)).copy_meta_from(volume)
        back.affine = torch.as_tensor(affine)
        return back


def paper_affine(
    shape: Sequence[int],
    affine: np.ndarray,
    grid: Sequence[int] = GRID,
    spacing_mm: Sequence[float] = SPACING_MM,
    max_scale: float = MAX_SCALE,
) -> np.ndarray:
    """Affine of the grid: along the scan's own axes, around its centre, in voxels of ``spacing_mm`` / s.

    The scale s = min(max_scale, 138 / D, 256 / H, 256 / W) makes the whole scan fit into the grid; D, H, W is its size
    in voxels of ``spacing_mm``, including voxel borders, as real numbers.

    Args:
        shape: voxels along the axes of the stored array.
        affine: (4, 4), index of the stored array to RAS mm.
        grid: voxels of the grid along z, y, x.
        spacing_mm: voxel size along z, y, x before scaling.
        max_scale: largest factor s.

    Returns:
        (4, 4) float64, index (z, y, x) of the grid to RAS mm; z to Superior, y to Posterior, x to Left.

    Raises:
        ValueError: when an argument is not valid.

    Example:
        >>> lps = np.diag([-0.75, -0.75, 1.0, 1.0])
        >>> paper_affine((400, 400, 300), lps)[2, 0].item()  # s = 0.5
        2.5
        >>> round(1.25 / paper_affine((512, 512, 300), lps)[2, 0].item(), 4)  # 384 mm are 535.7 voxels
        0.4779
    """
    _check_grid(grid, spacing_mm, max_scale)
    _check_scan(shape, affine)
    orientation = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(AXCODES)))
    axes = np.argsort(orientation[:, 0])  # array axis of each grid axis
    voxel_mm = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)[axes]
    extent_mm = np.asarray(shape)[axes] * voxel_mm
    scale = float(min(max_scale, *(np.asarray(grid) * np.asarray(spacing_mm) / extent_mm)))
    step = orientation[axes, 1] * np.asarray(spacing_mm) / scale / voxel_mm
    index = np.eye(4)
    index[:3, :3] = 0
    index[axes, range(3)] = step
    index[axes, 3] = (np.asarray(shape)[axes] - 1) / 2 - step * (np.asarray(grid) - 1) / 2
    return np.asarray(affine, dtype=np.float64) @ index


def _nudged(affine: np.ndarray, mode: str) -> np.ndarray:
    shift = np.eye(4)
    shift[:3, 3] = TIE_VOXELS if mode == NEAREST else 0
    return affine @ shift


def _onto(volume: MetaTensor, affine: np.ndarray, grid: tuple[int, ...], mode: str) -> np.ndarray:
    index = np.linalg.inv(volume.affine.numpy()) @ _nudged(affine, mode)
    return sample(_numpy(volume)[0], index, grid, mode)


def _numpy(volume: MetaTensor) -> np.ndarray:
    tensor = volume.as_tensor().detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def sample(array: np.ndarray, index: np.ndarray, shape: Sequence[int], mode: str) -> np.ndarray:
    """Sample an array at the points ``index @ (i, j, k, 1)``, one axis after the other.

    The slowest axis in memory comes first, or last if the output is larger than the array.

    Args:
        array: (X, Y, Z), any memory layout.
        index: (4, 4), index of the output to index of the array; it only permutes, flips, scales and shifts axes.
        shape: output size.
        mode: linear (border values are repeated outside the array) or nearest (0 outside the array).

    Returns:
        Array of ``shape``, contiguous: float32 if linear, otherwise the array's type.
    """
    memory = np.argsort(array.strides, kind="stable")[::-1]
    out_axis = np.argsort(io_orientation(index)[:, 0])[memory]
    sampled = array.transpose(memory)
    dims = range(3) if np.prod(shape) < array.size else range(2, -1, -1)
    for dim in dims:
        axis, out = memory[dim], out_axis[dim]
        position = index[axis, out] * np.arange(shape[out]) + index[axis, 3]
        sampled = _linear(sampled, dim, position) if mode == LINEAR else _nearest(sampled, dim, position)
    return np.ascontiguousarray(sampled.transpose(np.argsort(out_axis)))


def _linear(array: np.ndarray, axis: int, position: np.ndarray) -> np.ndarray:
    last = array.shape[axis] - 1
    position = position.clip(0, last)
    below = np.floor(position).astype(np.intp)
    weight = (position - below).astype(np.float32).reshape([-1 if dim == axis else 1 for dim in range(3)])
    low = array.take(below, axis).astype(np.float32, copy=False)
    sampled = array.take((below + 1).clip(max=last), axis).astype(np.float32, copy=False)
    sampled -= low
    sampled *= weight
    sampled += low
    return sampled


def _nearest(array: np.ndarray, axis: int, position: np.ndarray) -> np.ndarray:
    last = array.shape[axis] - 1
    voxel = np.floor(position + 0.5).astype(np.intp)
    sampled = array.take(voxel.clip(0, last), axis)
    np.moveaxis(sampled, axis, 0)[(voxel < 0) | (voxel > last)] = 0
    return sampled


def _volume(item: Mapping[Hashable, Any], key: str, case: str) -> MetaTensor:
    volume = item.get(key)
    if volume is None:
        raise ValueError(f"Case {case}: {key} is missing. Add it to the datalist, or segment the masks first.")
    if not isinstance(volume, MetaTensor):
        raise ValueError(f"Case {case}: {key} has no affine. Load it with LoadImaged.")
    if volume.ndim != 4 or volume.shape[0] != 1:
        raise ValueError(
            f"Case {case}: {key} has shape {tuple(volume.shape)}. Expected one volume (1, X, Y, Z): "
            "load it with ensure_channel_first, and split time points into separate cases."
        )
    return volume


def _check_scan(shape: Sequence[int], affine: np.ndarray) -> None:
    axes = np.asarray(affine, dtype=np.float64)
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"Scan has shape {tuple(shape)}. Expected three sizes (x, y, z), each at least 1.")
    if axes.shape != (4, 4) or not np.isfinite(axes).all() or abs(np.linalg.det(axes[:3, :3])) < 1e-9:
        raise ValueError(
            f"Scan has the affine {np.round(axes, 3).tolist()}. Expected 4 x 4 numbers, index to mm, with three "
            "different directions. Copy the header of the original image."
        )


def _check_grid(grid: Sequence[int], spacing_mm: Sequence[float], max_scale: float) -> None:
    if len(grid) != 3 or any(size != int(size) or size < 1 for size in grid):
        raise ValueError(f"grid is {tuple(grid)}. Expected three whole numbers of voxels (z, y, x), such as {GRID}.")
    if len(spacing_mm) != 3 or not all(np.isfinite(step) and step > 0 for step in spacing_mm):
        raise ValueError(
            f"spacing_mm is {tuple(spacing_mm)}. Expected three sizes in mm (z, y, x), such as {SPACING_MM}."
        )
    if not 0 < max_scale <= 1:
        raise ValueError(f"max_scale is {max_scale}. Expected a factor above 0 and at most 1, such as {MAX_SCALE}.")


def _check_window(window_hu: Sequence[float]) -> None:
    if len(window_hu) != 2 or not np.isfinite(window_hu).all() or window_hu[0] >= window_hu[1]:
        raise ValueError(
            f"window_hu is {tuple(window_hu)}. Expected its lower and upper end in HU, such as (-1350, 150)."
        )


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(int(size)) for size in shape)
