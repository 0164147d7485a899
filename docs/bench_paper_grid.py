"""CPU seconds of bringing one scan in memory onto the paper's grid: ``python docs/bench_paper_grid.py``.

PaperGridd against MONAI's SpatialResample of the same three arrays onto the same grid, which neither windows nor masks.
"""

import sys
import time
from collections.abc import Callable, Sequence

import fire
import numpy as np
import torch
from custom_components import PaperGridd
from monai.data import MetaTensor
from monai.transforms import SpatialResample


def bench(shape: Sequence[int] = (512, 512, 300), repeats: int = 5) -> None:
    """Print the CPU seconds, all threads counted, of CT, lung and infection mask together: least, median, most.

    Args:
        shape: voxels along x, y, z, of 0.7 x 0.7 x 1 mm, stored as DICOM readers do (LPS).
        repeats: how often.
    """
    image = np.random.default_rng(0).integers(-1000, 100, tuple(shape), dtype=np.int16).astype(np.float32)
    affine = torch.diag(torch.tensor([-0.7, -0.7, 1.0, 1.0], dtype=torch.float64))
    arrays = {"image": image, **dict.fromkeys(("lung", "infection"), (image > -500).astype(np.uint8))}
    item = {key: MetaTensor(torch.from_numpy(array)[None], affine=affine) for key, array in arrays.items()}
    transform = PaperGridd()
    grid = transform(item)["image"].affine

    def resample() -> None:
        for key, volume in item.items():
            mode = "bilinear" if key == "image" else "nearest"
            SpatialResample(mode=mode, dtype=torch.float32)(volume, dst_affine=grid, spatial_size=transform.grid)

    sys.stdout.write(f"{' x '.join(map(str, shape))}, CPU seconds: least, median, most of {repeats}\n")
    for name, work in {"PaperGridd": lambda: transform(item), "SpatialResample": resample}.items():
        sys.stdout.write(f"{name}: {', '.join(f'{value:.2f}' for value in cpu_seconds(work, repeats))}\n")


def cpu_seconds(work: Callable[[], object], repeats: int) -> list[float]:
    """Least, median and most CPU seconds of doing something."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return [float(np.quantile(seconds, share)) for share in (0, 0.5, 1)]


if __name__ == "__main__":
    fire.Fire(bench)
