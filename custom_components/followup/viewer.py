"""viewer.html of a comparison: both scans side by side to scroll through together, in one file without network."""

import json
from base64 import b64encode
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from custom_components.followup.change import NEW, RESOLVED, Change
from custom_components.followup.pictures import CHANGE_COLOURS, CHANGE_NAMES
from custom_components.followup.scan import DiagnosedScan
from custom_components.reports.display import Display
from custom_components.reports.html_page import page_template
from custom_components.reports.scan.layers import Layer, ReducedGrid, ct_volume, infection_layer, label_layer
from custom_components.reports.scan.page import css_colour, shortened
from custom_components.reports.scan.sentences import estimate_text
from custom_components.reports.scan.viewer import software_of
from markupsafe import Markup
from nibabel.affines import apply_affine
from scipy import ndimage

# Changes in the list: the largest, from this volume on.
MOST_CHANGES, LEAST_ML = 20, 0.5


@dataclass(frozen=True)
class ChangedRegion:
    """A connected part of new or resolved infection.

    Attributes:
        kind: ``new`` or ``resolved``.
        volume_ml: its volume.
        voxel: one of its voxels near its middle, index of the later scan's file.
    """

    kind: str
    volume_ml: float
    voxel: tuple[int, int, int]


def render_linked_viewer(
    case_ids: tuple[str, str],
    later: DiagnosedScan,
    earlier_hu: np.ndarray,
    earlier_infection: np.ndarray,
    change: Change,
) -> str:
    """Render the viewer of a comparison.

    Args:
        case_ids: names of the earlier and of the later case.
        later: the later scan.
        earlier_hu: CT of the earlier scan on the grid of the later one, in HU, (X, Y, Z).
        earlier_infection: infection of the earlier scan on this grid.
        change: the change on this grid.

    Returns:
        HTML that runs two scripts, niivue and ``viewer.js``, and no others; texts of the scans are escaped.
    """
    grid = ReducedGrid(later.affine, later.hu.shape)
    changed = label_layer("change", "change", change.map, list(CHANGE_COLOURS.values()), grid)
    sides = {
        "earlier": (ct_volume(earlier_hu, grid), [infection_layer(earlier_infection, grid)]),
        "later": (ct_volume(later.hu, grid), [infection_layer(later.infected, grid), changed]),
    }
    volumes = {side: ct for side, (ct, _) in sides.items()}
    volumes |= {f"{side}-{layer.name}": layer.volume for side, (_, layers) in sides.items() for layer in layers}
    regions = changed_regions(change.map, later.affine)
    script = (files("custom_components") / "followup/viewer.js").read_text(encoding="utf-8")
    return page_template("followup", "viewer.html.j2", {"shortened": shortened, "estimate": estimate_text}).render(
        case_ids=case_ids,
        **software_of(script),
        volumes={name: b64encode(volume).decode("ascii") for name, volume in volumes.items()},
        legend={CHANGE_NAMES[value]: css_colour(colour) for value, colour in CHANGE_COLOURS.items()},
        regions=regions,
        scan=_scan(later, grid, {side: layers for side, (_, layers) in sides.items()}, regions),
    )


def changed_regions(map_: np.ndarray, affine: np.ndarray) -> list[ChangedRegion]:
    """The largest connected parts of new and of resolved infection.

    Args:
        map_: change map, uint8 (X, Y, Z).
        affine: (4, 4) voxel index to RAS mm.

    Returns:
        At most ``MOST_CHANGES`` of at least ``LEAST_ML``, from the largest to the smallest.

    Example:
        >>> map_ = np.zeros((9, 4, 4), np.uint8)
        >>> map_[1:4, 1:3, 1:3], map_[7, 1, 1] = 2, 3
        >>> regions = changed_regions(map_, np.diag([10, 10, 10, 1.0]))
        >>> [(region.kind, round(region.volume_ml, 3), region.voxel) for region in regions]
        [('new', 12.0, (2, 1, 1)), ('resolved', 1.0, (7, 1, 1))]
    """
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    regions = []
    for value in (NEW, RESOLVED):
        parts, _ = ndimage.label(map_ == value, np.ones((3, 3, 3)))
        for index, box in enumerate(ndimage.find_objects(parts), start=1):
            voxels = np.argwhere(parts[box] == index) + [part.start for part in box]
            nearest = voxels[np.abs(voxels - voxels.mean(axis=0)).sum(axis=1).argmin()].tolist()
            regions.append(
                ChangedRegion(CHANGE_NAMES[value], len(voxels) * voxel_ml, (nearest[0], nearest[1], nearest[2]))
            )
    large = [region for region in regions if region.volume_ml >= LEAST_ML]
    return sorted(large, key=lambda region: -region.volume_ml)[:MOST_CHANGES]


def _scan(
    later: DiagnosedScan, grid: ReducedGrid, layers: dict[str, list[Layer]], regions: list[ChangedRegion]
) -> Markup:
    """What ``viewer.js`` has to know, as JSON; places are fractions of the volume towards left, front and top."""
    display, shape = Display(later.affine), later.hu.shape
    slices = display.slice_indices(shape)
    lungs = np.argwhere(later.lungs != 0)
    middle = lungs.mean(axis=0) if len(lungs) else np.array(shape) / 2
    content: dict[str, Any] = {
        "slices": [slices[0], slices.step, len(slices)],
        "extent": grid.extent,
        "layers": {
            side: [
                {"name": layer.name, "most": layer.most, "colours": layer.colours, "opacity": layer.opacity}
                for layer in some
            ]
            for side, some in layers.items()
        },
        "regions": [_fractions(grid, later.affine, region.voxel) for region in regions],
        "start": _fractions(grid, later.affine, regions[0].voxel if regions else middle),
    }
    return Markup(json.dumps(content, allow_nan=False).replace("<", "\\u003c"))


def _fractions(grid: ReducedGrid, affine: np.ndarray, voxel: Any) -> list[float]:
    place = apply_affine(np.linalg.inv(grid.affine), apply_affine(affine, voxel))
    return [round(float(one), 6) for one in (place + 0.5) * grid.factors / np.array(grid.extent)]
