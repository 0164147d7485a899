import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from custom_components.handlers.slice_table import AREAS, SLICE_TABLE, SliceTable, areas_by_slice, slice_positions
from custom_components.images.ct_reader import CTReader, LabelReader
from custom_components.transforms.paper_grid import PaperGridd, paper_affine
from monai.data import list_data_collate
from monai.engines import IterationEvents
from monai.transforms import Compose, LoadImaged
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from tests.handlers.evaluator import evaluator_of

# Scan of 14 slices of 5 mm, x to the patient's left, z to the head: two lungs, the left one larger.
SHAPE, SPACING_MM = (30, 22, 14), (8.0, 9.0, 5.0)
PLACES = {"grid": (36, 30, 32), "spacing_mm": (2.0, 7.0, 8.0), "max_scale": 1.0}
LUNGS = {"right": np.s_[2:10, 4:18, 2:11], "left": np.s_[17:28, 3:19, 3:12]}


def volumes():
    lung, infection = np.zeros((2, *SHAPE), np.uint8)
    for place in LUNGS.values():
        lung[place] = 1
    infection[4:7, 5:9, 8:10] = 1  # right lung
    infection[18:26, 5:15, 5:6] = 1  # left lung
    infection[12:15, 2:4, 7] = 1  # outside the lungs
    return lung, infection


def native_areas(mask, side):
    """Area in each slice from the head, counted slice by slice."""
    inside = np.zeros(SHAPE, bool)
    inside[LUNGS[side]] = True
    pixel_cm2 = SPACING_MM[0] * SPACING_MM[1] / 100
    return [float((mask[..., k][inside[..., k]] != 0).sum()) * pixel_cm2 for k in reversed(range(SHAPE[2]))]


def centre(areas):
    return float(areas @ np.arange(len(areas)) / areas.sum())


def write(folder, axcodes="LPS"):
    """The scan stored with other axes, from an image with x to Left, y to Posterior, z to Superior."""
    affine = np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0])
    lung, infection = volumes()
    files = {}
    for name, array in {"image": np.full(SHAPE, -600, np.int16), "lung": lung, "infection": infection}.items():
        image = nib.Nifti1Image(array, affine)
        turn = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(axcodes)))
        files[name] = folder / f"{name}.nii.gz"
        nib.save(image.as_reoriented(turn), files[name])
    return {"case_id": "c1", **{key: str(path) for key, path in files.items()}}


def on_the_grid(scan):
    load = [
        LoadImaged("image", CTReader(), ensure_channel_first=True),
        LoadImaged(["lung", "infection"], LabelReader(), ensure_channel_first=True),
        PaperGridd(**PLACES),
    ]
    item = Compose(load)(scan)
    return {"case_id": "c1", **{key: item[key].as_tensor() for key in ("image", "infection")}}


class Attention:
    """Adds an attention map to the output of each case."""

    def __init__(self, of):
        self.of = of

    def attach(self, engine):
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self.add)

    def add(self, engine):
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            output["attention"] = self.of(item)


def table_of(folder, scan, attention=lambda item: item["infection"] * 0.25):
    batch = list_data_collate([on_the_grid(scan)])
    evaluator_of([batch], Attention(attention), SliceTable(folder, [scan], **PLACES)).run()
    with (folder / SLICE_TABLE).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("axcodes", ["LPS", "RAI", "SLA"])
def test_areas_are_those_of_the_scans_own_slices_from_the_head_however_it_is_stored(tmp_path, axcodes):
    rows = table_of(tmp_path, write(tmp_path, axcodes))
    assert [(row["case_id"], row["slice"]) for row in rows] == [("c1", str(index)) for index in range(SHAPE[2])]
    lung, infection = volumes()
    for side in LUNGS:
        for name, mask in {"lung": lung, "infection": infection}.items():
            found = np.array([float(row[f"{name}_{side}_cm2"]) for row in rows])
            expected = np.array(native_areas(mask, side))
            # At the first and last slice of a mask, the grid interpolates; in all others it is exact to a voxel.
            inner = np.convolve(expected, [1, 1, 1], "same") == 3 * expected
            assert inner.sum() >= 6
            assert found[inner] == pytest.approx(expected[inner], rel=0.12)
            assert found.sum() == pytest.approx(expected.sum(), rel=0.12)
            assert centre(found) == pytest.approx(centre(expected), abs=0.15)
        attended = [float(row[f"attention_{side}_cm2"]) for row in rows]
        assert attended == pytest.approx([0.25 * float(row[f"infection_{side}_cm2"]) for row in rows], abs=2e-6)


def test_a_soft_mask_of_zero_but_for_rounding_has_no_area(tmp_path):
    rows = table_of(tmp_path, write(tmp_path), lambda item: torch.full_like(item["image"], 4e-18))
    assert {row["attention_left_cm2"] for row in rows} == {"0.0"}


def test_areas_equal_a_count_voxel_by_voxel():
    rng, shape = np.random.default_rng(3), (6, 9, 20)
    lung = np.zeros(shape, bool)
    lung[1:5, 2:8, 1:8] = lung[1:6, 1:8, 12:19] = True
    infection, attention = rng.random(shape) < 0.3, rng.random(shape)
    on_grid = np.eye(4)[[2, 1, 0, 3]] * [4.0, 10.0, 10.0, 1.0] * [[-1], [-1], [1], [1]]  # z to S, y to P, x to L
    areas = areas_by_slice(lung, infection, attention, on_grid, np.arange(6.0)[::-1])
    expected = {key: np.zeros(6) for key in AREAS}
    for z, y, x in np.ndindex(shape):
        if lung[z, y, x]:
            side = "right" if x < 10 else "left"
            expected[f"lung_{side}_cm2"][5 - z] += 1
            expected[f"infection_{side}_cm2"][5 - z] += infection[z, y, x]
            expected[f"attention_{side}_cm2"][5 - z] += attention[z, y, x]
    for key in AREAS:
        assert areas[key] == pytest.approx(expected[key])


def test_slices_lie_where_their_centres_are():
    for codes in ("LPS", "SAR"):
        turn = ornt_transform(axcodes2ornt(tuple("LPS")), axcodes2ornt(tuple(codes)))
        image = nib.Nifti1Image(np.zeros(SHAPE), np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1]))
        image = image.as_reoriented(turn)
        on_grid = paper_affine(image.shape, image.affine, **PLACES)
        axis = codes.index("S")
        ends = np.eye(4)[axis] * (SHAPE[2] - 1)
        heights = sorted((image.affine @ (ends * [1, 1, 1, 0] * k / 13 + np.eye(4)[3]))[2] for k in range(SHAPE[2]))
        expected = [(height - on_grid[2, 3]) / on_grid[2, 0] for height in reversed(heights)]
        assert slice_positions(image.shape, image.affine, on_grid) == pytest.approx(expected)


def test_a_network_without_attention_and_maps_of_another_grid_are_refused(tmp_path):
    scan = write(tmp_path)
    with pytest.raises(ValueError, match="Case c1: the network has no attention"):
        table_of(tmp_path, scan, lambda item: None)
    with pytest.raises(ValueError, match=r"on one grid, got .* Resample"):
        areas_by_slice(np.ones((2, 3, 4)), np.ones((2, 3, 4)), np.ones((2, 3, 3)), np.eye(4), np.zeros(1))


def test_the_rows_pass_between_processes_as_json(tmp_path):
    scan = write(tmp_path)
    item = on_the_grid(scan)
    described = SliceTable(tmp_path, [scan], **PLACES).describe({**item, "attention": item["infection"]})
    assert json.loads(json.dumps(described)) == described
