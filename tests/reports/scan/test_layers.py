"""8-bit volumes of the viewer."""

import gzip
import itertools

import nibabel as nib
import numpy as np
import pytest
from custom_components.pictures.overlay import INFECTION_COLOUR, LESION_COLOURS, LUNG_COLOUR
from custom_components.reports.scan import layers
from custom_components.reports.scan.layers import (
    ATTENTION_STEPS,
    BORDER,
    INSIDE,
    ReducedGrid,
    ct_volume,
    heat_colours,
    layers_of,
)

from tests.reports.scan.test_report import by_hand, stored_as


def read(volume: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(volume))


@pytest.fixture
def small(monkeypatch) -> None:
    """At most 3 x 3 pixels a slice and 4 slices."""
    monkeypatch.setattr(layers, "MOST_VOXELS", (3, 3, 4))


def mean_of_blocks(array: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    """Loop by loop; past the end, the last voxel is repeated."""
    shape = [-(-size // factor) for size, factor in zip(array.shape, factors, strict=True)]
    means = np.zeros(shape)
    for place in np.ndindex(*shape):
        block = [
            [min(at * factor + step, size - 1) for step in range(factor)]
            for at, factor, size in zip(place, factors, array.shape, strict=True)
        ]
        means[place] = np.mean([array[voxel] for voxel in itertools.product(*block)])
    return means


def test_the_ct_is_stored_in_steps_of_8_hu_at_its_place():
    hu = np.random.default_rng(0).uniform(-1500, 1400, (5, 6, 7)).astype(np.float32)
    findings = by_hand(image_hu=hu)
    image = read(ct_volume(findings.image_hu, ReducedGrid(findings.affine, hu.shape)))
    assert (image.get_data_dtype(), image.shape) == (np.uint8, (5, 6, 7))
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    expected = nib.as_closest_canonical(nib.Nifti1Image(hu, findings.affine))
    np.testing.assert_allclose(image.affine, expected.affine, atol=1e-5)
    limited = np.clip(expected.get_fdata(), -1024, 1016)
    assert np.abs(image.get_fdata() - limited).max() <= 4


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PSL", "IRA"])
def test_blocks_are_averaged_and_their_centres_stay_in_place(small, orientation):
    hu = np.random.default_rng(1).integers(-100, 100, (5, 6, 7)).astype(np.float32) * 8
    findings = stored_as(by_hand(image_hu=hu), orientation)
    grid = ReducedGrid(findings.affine, findings.image_hu.shape)
    assert (grid.factors, grid.extent) == ((2, 2, 2), (6, 6, 8))
    image = read(ct_volume(findings.image_hu, grid))
    ras = nib.as_closest_canonical(nib.Nifti1Image(findings.image_hu, findings.affine))
    assert np.abs(image.get_fdata() - mean_of_blocks(ras.get_fdata(), grid.factors)).max() <= 4
    for voxel in ((0, 0, 0), (2, 1, 3)):
        centre = np.array([*(2 * np.array(voxel) + 0.5), 1])
        np.testing.assert_allclose(image.affine @ [*voxel, 1], ras.affine @ centre, atol=1e-5)


def test_a_mask_keeps_blocks_that_are_at_least_half_full_with_their_most_frequent_label(small):
    labels = np.zeros((4, 4, 2), np.uint8)
    labels[0:2, 0:2, 0] = [[1, 2], [2, 0]]  # three of four
    labels[2:4, 0:2, 0] = [[3, 3], [0, 0]]  # two of four
    labels[0:2, 2:4, 0] = [[1, 0], [0, 0]]  # one of four
    grid = ReducedGrid(np.eye(4), labels.shape)
    assert grid.factors == (2, 2, 1)
    assert grid.labels(labels, (1, 2, 3))[..., 0].tolist() == [[2, 0], [3, 0]]
    assert not grid.labels(labels, (1, 2, 3))[..., 1].any()


def test_a_full_size_scan_has_at_most_256_pixels_and_512_slices():
    for shape in ((512, 512, 300), (768, 700, 120), (1024, 256, 1100), (91, 37, 5)):
        grid = ReducedGrid(np.eye(4), shape)
        assert grid.factors[0] == grid.factors[1]  # square pixels stay square
        reduced = [extent // factor for extent, factor in zip(grid.extent, grid.factors, strict=True)]
        assert max(reduced[:2]) <= 256
        assert reduced[2] <= 512


def test_layers_are_the_masks_and_maps_of_the_findings(findings_of):
    findings = findings_of["full"]
    grid = ReducedGrid(findings.affine, findings.image_hu.shape)
    found = layers_of(findings, grid)
    assert [layer.name for layer in found] == ["lungs", "infection", "lesions", "attention_us", "attention_ss"]
    volumes = {layer.name: read(layer.volume) for layer in found}
    ras = {
        name: nib.as_closest_canonical(nib.Nifti1Image(getattr(findings, name), findings.affine)).get_fdata()
        for name in ("lungs", "infection", "lesions", "attention_us")
    }
    for name in ("lungs", "infection"):
        np.testing.assert_array_equal(volumes[name].get_fdata() > 0, ras[name] > 0)
    np.testing.assert_array_equal(volumes["lesions"].get_fdata(), ras["lesions"])
    assert np.abs(volumes["attention_us"].get_fdata() - ras["attention_us"]).max() <= 0.5 / ATTENTION_STEPS + 1e-6
    assert [layer.is_shown for layer in found] == [True, True, True, False, False]


def test_layers_that_were_not_computed_are_left_out(findings_of):
    for state, names in (("lungs only", ["lungs"]), ("no classifier", ["lungs", "infection", "lesions"])):
        findings = findings_of[state]
        grid = ReducedGrid(findings.affine, findings.image_hu.shape)
        assert [layer.name for layer in layers_of(findings, grid)] == names


def test_the_border_of_a_mask_is_one_voxel_wide_on_each_slice():
    lungs = np.zeros((7, 6, 2), np.uint8)
    lungs[1:6, 1:5, 0] = 1
    lungs[0:2, :, 1] = 2
    hu = np.zeros(lungs.shape, np.float32)
    findings = by_hand(image_hu=hu, affine=np.eye(4), lungs=lungs, infection=None, lesions=None, lesion_slices=())
    outlined = read(layers_of(findings, ReducedGrid(np.eye(4), lungs.shape))[0].volume).get_fdata()
    assert outlined[1:6, 1:5, 0].tolist() == [[2, 2, 2, 2], *[[2, 1, 1, 2]] * 3, [2, 2, 2, 2]]
    assert outlined[0, :, 1].tolist() == [INSIDE] * 6  # the edge of the scan is no border
    assert outlined[1, :, 1].tolist() == [BORDER] * 6
    assert outlined.sum() == 14 * 2 + 6 * 1 + 6 * 1 + 6 * 2


def test_colours_are_those_of_the_report(findings_of):
    findings = findings_of["full"]
    by_name = {layer.name: layer for layer in layers_of(findings, ReducedGrid(findings.affine, findings.lungs.shape))}

    def shades(name):
        colours = by_name[name].colours
        return list(zip(*(colours[channel] for channel in "RGB"), strict=True))

    assert shades("lungs")[BORDER] == LUNG_COLOUR
    assert shades("infection")[BORDER] == INFECTION_COLOUR
    assert shades("lesions")[1:] == list(LESION_COLOURS.values())
    assert by_name["infection"].colours["A"][INSIDE] == 0  # so that it does not change the colour of the classes
    heat = heat_colours()
    brightness = [sum(channels) for channels in zip(heat["R"], heat["G"], heat["B"], strict=True)]
    assert brightness == sorted(brightness)
    assert (heat["A"][0], heat["I"][-1]) == (0, 255)
