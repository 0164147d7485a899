"""Inference of the two public DICOM series with random weights: do lungs, maps and picture lie on the CT?"""

import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from custom_components import CTReader
from custom_components.pictures.overlay import LUNG_COLOUR
from monai.transforms import LoadImage
from PIL import Image
from pydicom import dcmread
from scipy import ndimage

from tests.bundles.cap.conftest import BUNDLE
from tests.bundles.conftest import digests
from tests.real_data import real_data

pytestmark = pytest.mark.slow  # reads and segments two whole series

SMALL = {**BUNDLE.small, "grid": [69, 128, 128], "spacing_mm": [1.25, 0.7168, 0.7168]}
NAMES = ["P001", "cap001"]
STRIDE = 4  # of the voxels that are compared, along each axis
FAR_MM = 80  # from the lungs: farther than this network sees
LEGEND_PX = -40  # rows of the picture above its legend


def random_weights(path: Path) -> Path:
    """No bias, and classifiers of positive weights alone: attention is where the network sees lung, nowhere else."""
    parser = BUNDLE.parser_of("inference.json")
    for key, value in SMALL.items():
        parser[key] = value
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    changes = {"bias": torch.zeros_like, "fc.weight": torch.abs}
    state = {
        name: next((change(tensor) for end, change in changes.items() if name.endswith(end)), tensor)
        for name, tensor in network.state_dict().items()
    }
    torch.save(state, path)
    return path


def header_affine(folder: Path) -> np.ndarray:
    """Index to RAS mm, read from the headers of an axial series alone."""
    headers = [dcmread(path, stop_before_pixels=True) for path in folder.iterdir()]
    slices = sorted(headers, key=lambda header: header.ImagePositionPatient[2])
    x, y, z = (float(value) for value in slices[0].ImagePositionPatient)
    step_mm = (float(slices[-1].ImagePositionPatient[2]) - z) / (len(slices) - 1)
    row_mm, column_mm = (float(value) for value in slices[0].PixelSpacing)
    affine = np.diag([-column_mm, -row_mm, step_mm, 1])
    affine[:3, 3] = -x, -y, z
    return affine


def air_in_body(hu: np.ndarray) -> np.ndarray:
    """The largest piece of air that does not reach the sides of the image: both lungs, by a rule of its own."""
    pieces, count = ndimage.label(hu < -400)
    sides = np.unique(np.concatenate([pieces[[0, -1]].ravel(), pieces[:, [0, -1]].ravel()]))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[[0, *sides]] = 0
    return pieces == sizes.argmax()


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, SimpleNamespace]:
    """Both series in one run; each with its report, maps and picture, its HU and its lungs by a rule of its own."""
    folder, out = real_data("covid_ct_md"), tmp_path_factory.mktemp("real")
    before = {name: digests(folder / name) for name in NAMES}
    weights = random_weights(out / "weights.pt")
    BUNDLE.run("inference.json", dataset_dir=folder, output_dir=out / "results", ckpt_path=weights, **SMALL)
    assert {name: digests(folder / name) for name in NAMES} == before
    assert sorted(path.name for path in (out / "results").iterdir()) == NAMES
    return {name: result_of(folder / name, out / "results" / name) for name in NAMES}


def result_of(series: Path, folder: Path) -> SimpleNamespace:
    name = series.name
    hu = LoadImage(CTReader(), image_only=True)(series).numpy()[::STRIDE, ::STRIDE, ::STRIDE]
    maps = {end: nib.load(folder / f"{name}_attention_{end}.nii.gz") for end in ("us", "ss", "levels")}
    return SimpleNamespace(
        series=series,
        report=json.loads((folder / f"{name}_diagnosis.json").read_text(encoding="utf-8")),
        maps=maps,
        picture=np.asarray(Image.open(folder / f"{name}_attention.png")),
        lungs=air_in_body(hu),
        spacing_mm=STRIDE * np.abs(np.diag(maps["us"].affine)[:3]),
    )


@pytest.fixture(params=NAMES)
def result(request, results) -> SimpleNamespace:
    return results[request.param]


@pytest.mark.real_data
def test_the_maps_have_the_grid_that_the_dicom_headers_tell(result):
    headers = [dcmread(path, stop_before_pixels=True) for path in result.series.iterdir()]
    for written in result.maps.values():
        assert written.shape == (headers[0].Columns, headers[0].Rows, len(headers))
        assert np.allclose(written.affine, header_affine(result.series), atol=1e-3)


@pytest.mark.real_data
def test_the_lungs_are_found_without_a_model_and_the_report_says_so(result):
    report = result.report
    assert report["lung_source"] == "threshold and morphology (no model)"
    assert any("has no lung mask" in note for note in report["notes"])
    assert (report["p_final"], report["ratio"]) == (None, None)
    assert 3000 < report["lung_volume_ml"] < 7000
    own_ml = np.count_nonzero(result.lungs) * np.prod(result.spacing_mm) / 1000
    assert report["lung_volume_ml"] == pytest.approx(own_ml, rel=0.1)


@pytest.mark.real_data
@pytest.mark.parametrize("end", ["us", "ss"])
def test_attention_lies_on_the_lungs(result, end):
    """Measured: mean 0.38 to 0.54 in the lungs, 0.02 to 0.03 far from them, there 0.22 at most."""
    attention = np.asarray(result.maps[end].dataobj)[::STRIDE, ::STRIDE, ::STRIDE]
    far = ndimage.distance_transform_edt(~result.lungs, sampling=result.spacing_mm) > FAR_MM
    assert far.mean() > 0.05
    assert attention[result.lungs].mean() > 0.3
    assert attention[far].mean() < 0.05
    assert attention[far].max() < 0.3


@pytest.mark.real_data
def test_the_contour_of_the_picture_parts_dark_lung_from_light_tissue(result):
    panels = result.picture[:LEGEND_PX]
    line = (panels == LUNG_COLOUR).all(axis=-1)
    lungs = ndimage.binary_fill_holes(line)
    around = ndimage.binary_dilation(lungs, iterations=8) & ~ndimage.binary_dilation(lungs, iterations=2)
    grey = panels.mean(axis=-1)
    assert lungs[:, : panels.shape[1] // 3].sum() == lungs.sum() > 100_000  # axial and coronal, of the first column
    assert (grey[lungs & ~line] < 128).mean() > 0.8
    assert (grey[around] > 128).mean() > 0.95
