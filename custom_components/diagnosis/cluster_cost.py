"""What many scans cost on a cluster: core-hours, time and bytes, from the measured time of one scan."""

from collections.abc import Sequence
from dataclasses import dataclass

from custom_components.diagnosis.scan_run import least_bytes

SCANS = (10_000, 100_000, 1_000_000)
# Bytes of a voxel of an uncompressed CT.
CT_BYTES = 2


@dataclass(frozen=True)
class ScanCost:
    """What one scan costs.

    Args:
        seconds: wall-clock seconds of all stages, on one worker.
        cores: CPU cores of the worker.
        voxels: voxels of the CT.
        volumes: names of the masks and maps that are written.
        has_objects: whether DICOM objects are written.
        has_viewer: whether the viewer is written.
    """

    seconds: float
    cores: float
    voxels: int
    volumes: tuple[str, ...]
    has_objects: bool = True
    has_viewer: bool = True

    @property
    def core_hours(self) -> float:
        """Hours of one core."""
        return self.seconds * self.cores / 3600

    @property
    def read_bytes(self) -> float:
        """Size of the CT, uncompressed."""
        return float(CT_BYTES * self.voxels)

    @property
    def written_bytes(self) -> float:
        """Least size of the results."""
        return least_bytes(self.voxels, self.volumes, self.has_objects, self.has_viewer)


def cost_table(cost: ScanCost, workers: int, scans: Sequence[int] = SCANS) -> str:
    """What numbers of scans cost, as Markdown.

    Args:
        cost: what one scan costs.
        workers: number of workers, for the duration; all of them are busy until the end.
        scans: numbers of scans.

    Example:
        >>> one = ScanCost(36, 2, 10_000_000, ("lungs",), has_objects=False, has_viewer=False)
        >>> print(cost_table(one, workers=100, scans=[10_000]))
        | scans | core-hours | days on 100 workers | read | written, at least |
        |---|---|---|---|---|
        | 10,000 | 200 | 0.042 | 0.2 TB | 0.01 TB |
    """
    rows = [
        f"| {count:,} | {_short(count * cost.core_hours)} | {_short(count * cost.seconds / workers / 86400)} | "
        f"{_short(count * cost.read_bytes / 1e12)} TB | {_short(count * cost.written_bytes / 1e12)} TB |"
        for count in scans
    ]
    return "\n".join(
        [
            f"| scans | core-hours | days on {workers} workers | read | written, at least |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def _short(number: float) -> str:
    """Two significant digits; whole numbers with separators."""
    rounded = float(f"{number:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"
