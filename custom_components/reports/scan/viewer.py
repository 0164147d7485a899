"""viewer.html of one scan: the CT with masks and maps to scroll through, in one file without network access."""

import gzip
import hashlib
import json
from base64 import b64encode
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from custom_components._version import NOTICE, __version__
from custom_components.files.atomic import atomic_path, writable_folder
from custom_components.pictures.overlay import LESION_COLOURS, Cut, as_picture
from custom_components.pictures.slices import window_to_grey
from custom_components.reports.html_page import page_template, picture_data_uri
from custom_components.reports.scan.displayed import DisplayedScan
from custom_components.reports.scan.findings import ScanFindings
from custom_components.reports.scan.layers import Layer, ReducedGrid, ct_volume, layers_of
from custom_components.reports.scan.page import VIEWER_NAME, css_colour, shortened
from custom_components.reports.scan.regions import Region, regions_of
from custom_components.reports.scan.sentences import LESION_NAMES, amount_text
from markupsafe import Markup

# Regions in the list; the others are only summed.
MOST_REGIONS = 40

_FOLDER = "reports/scan"
_DECIMALS = 3
_PREVIEW_PX = 384


def write_viewer(findings: ScanFindings, folder: str | Path) -> Path:
    """Write the viewer of a scan: it names neither the patient nor the series, only the case.

    Args:
        findings: findings of the scan.
        folder: output folder of the case.

    Returns:
        Path of ``viewer.html``.

    Raises:
        ValueError: if the findings are inconsistent; no file is written.
    """
    page = render_viewer(findings)
    target = writable_folder(folder) / VIEWER_NAME
    with atomic_path(target) as path:
        path.write_text(page, encoding="utf-8", errors="replace")  # a file name may contain invalid Unicode
    return target


def render_viewer(findings: ScanFindings) -> str:
    """Render the viewer of a scan.

    Args:
        findings: findings of the scan.

    Returns:
        HTML that runs two scripts, niivue and ``viewer.js``, and no others; texts of the scan are escaped.
    """
    scan, grid = DisplayedScan(findings), ReducedGrid(findings.affine, findings.image_hu.shape)
    layers = layers_of(findings, grid)
    regions, rest_ml = regions_of(scan, MOST_REGIONS)
    start = regions[0].voxel if regions else _middle(scan)
    return page_template(_FOLDER, "viewer.html.j2", {"shortened": shortened, "amount": amount_text}).render(
        case_id=findings.case_id,
        **software_of(_text("viewer.js")),
        volumes={"ct": b64encode(ct_volume(findings.image_hu, grid)).decode("ascii")}
        | {layer.name: b64encode(layer.volume).decode("ascii") for layer in layers},
        layers=[(layer, css_colour(layer.colour)) for layer in layers],
        classes=[(LESION_NAMES[name], css_colour(colour)) for name, colour in LESION_COLOURS.items()],
        preview=_preview(scan, start[2]),
        regions=regions,
        rest_ml=rest_ml,
        is_searched=findings.infection is not None or findings.lesions is not None,
        scan=_scan(scan, grid, layers, regions, start),
    )


@cache
def niivue_script() -> str:
    """niivue, https://niivue.com, as published; ``niivue/LICENSE`` has its version, hash and licence."""
    return gzip.decompress((files("custom_components") / _FOLDER / "niivue/niivue.umd.js.gz").read_bytes()).decode()


def _text(name: str) -> str:
    return (files("custom_components") / _FOLDER / name).read_text(encoding="utf-8")


def software_of(script: str) -> dict[str, str]:
    """What a page with niivue has in its template, whatever it shows.

    Args:
        script: the page's own script.

    Returns:
        ``niivue`` and ``script``; ``policy``, their hashes as a Content-Security-Policy names them; ``licence`` of
        niivue; ``version`` of this package; ``notice``.
    """
    scripts = {"niivue": Markup(niivue_script()), "script": Markup(script)}
    digests = (b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii") for text in scripts.values())
    policy = " ".join(f"'sha256-{digest}'" for digest in digests)
    return {**scripts, "policy": policy, "licence": _text("niivue/LICENSE"), "version": __version__, "notice": NOTICE}


def _scan(
    scan: DisplayedScan, grid: ReducedGrid, layers: list[Layer], regions: list[Region], start: tuple[int, int, int]
) -> Markup:
    """What ``viewer.js`` has to know, as JSON; places are fractions of the volume towards left, front and top.

    Raises:
        ValueError: if a position is not finite.
    """
    infected = scan.infected_voxels
    content: dict[str, Any] = {
        "slices": [scan.slice_indices[0], scan.slice_indices.step, len(scan.slice_indices)],
        "zMm": [round(float(z), _DECIMALS) for z in scan.z_mm],
        "extent": grid.extent,
        "layers": [
            {
                "name": layer.name,
                "most": layer.most,
                "colours": layer.colours,
                "isHeat": layer.is_heat,
                "opacity3d": layer.opacity_3d,
            }
            for layer in layers
        ],
        "regions": [_fractions(scan, grid, region.voxel) for region in regions],
        "start": _fractions(scan, grid, start),
        "infectedMl": None if infected is None else (infected * scan.voxel_ml).round(_DECIMALS).tolist(),
    }
    text = json.dumps(content, allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _preview(scan: DisplayedScan, z: int) -> str:
    """An axial slice in the lung window as data URI: shown until the volumes are decoded."""
    height = max(
        1, round(_PREVIEW_PX * scan.lungs.shape[1] * scan.spacing_mm[1] / scan.lungs.shape[0] / scan.spacing_mm[0])
    )
    grey = window_to_grey(Cut((slice(None), slice(None), z), (_PREVIEW_PX, height)).values(scan.image_hu))
    return picture_data_uri(as_picture(grey))


def _fractions(scan: DisplayedScan, grid: ReducedGrid, voxel: tuple[int, int, int]) -> list[float]:
    """Centre of a voxel in display orientation, as fractions of the viewer's volume from the right, front and top."""
    x, y, z = voxel
    across, along, _ = scan.image_hu.shape
    ras = (across - 1 - x, along - 1 - y, z)
    return [round((index + 0.5) / size, 6) for index, size in zip(ras, grid.extent, strict=True)]


def _middle(scan: DisplayedScan) -> tuple[int, int, int]:
    """A voxel in the middle of the slice with most lung; of the scan without lungs."""
    lung = scan.lung_voxels.sum(axis=0)
    if not lung.any():
        x, y, z = (size // 2 for size in scan.lungs.shape)
        return x, y, z
    z = int(lung.argmax())
    columns, rows = np.nonzero(scan.lungs[:, :, z])
    return int(columns.mean()), int(rows.mean()), z
