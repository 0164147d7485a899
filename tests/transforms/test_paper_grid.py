import itertools

import nibabel
import numpy as np
import pytest
import torch
from custom_components.images.ct_reader import CTReader, LabelReader
from custom_components.phantom import make_volume
from custom_components.transforms.paper_grid import PaperGridd, paper_affine
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import Compose, Flipd, Invertd, LoadImaged
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from scipy.ndimage import gaussian_filter

from tests.reference import paper_grid as reference
from tests.yardstick import yardsticks

WINDOW = (-1350.0, 150.0)
LPS = np.diag([-0.75, -0.75, 1.0, 1.0])


def rotation(degrees, axis):
    """Rotation by an angle in the plane of the two other axes."""
    a, (i, j) = np.deg2rad(degrees), [other for other in range(3) if other != axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(a)
    matrix[i, j], matrix[j, i] = -np.sin(a), np.sin(a)
    return matrix


def affine_of(voxel_mm, turn=None, origin_mm=(-31.0, 17.0, 211.0)):
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ np.diag(voxel_mm)
    affine[:3, 3] = origin_mm
    return affine


OBLIQUE = affine_of((-1.1, -0.9, 2.3), rotation(14, 0) @ rotation(-9, 1) @ rotation(21, 2))
AFFINES = {
    "RAS": affine_of((0.9, 1.1, 2.3)),
    "LPS": affine_of((-0.9, -1.1, 2.3)),
    "ASR": affine_of((1, 1, 1)) @ np.array([[0, 0, 1.7, 0], [1.1, 0, 0, 0], [0, 2.3, 0, 0], [0, 0, 0, 1]]),
    "oblique": OBLIQUE,
}


def volume(array, affine, name=None):
    meta = {} if name is None else {"filename_or_obj": name}
    return MetaTensor(torch.as_tensor(array)[None], affine=torch.as_tensor(affine), meta=meta)


def item_of(affine, shape=(7, 8, 6), seed=0, **arrays):
    random = np.random.default_rng(seed)
    defaults = {
        "image": random.uniform(-1500, 300, shape).astype(np.float32),
        "lung": (random.random(shape) < 0.7).astype(np.uint8),
        "infection": (random.random(shape) < 0.4).astype(np.uint8),
    }
    return {key: volume(array, affine) for key, array in {**defaults, **arrays}.items()}


def stored_as(source, codes):
    """The same image with its array in another orientation."""
    turn = ornt_transform(io_orientation(source.affine.numpy()), axcodes2ornt(tuple(codes)))
    affine = source.affine.numpy() @ inv_ornt_aff(turn, source.shape[1:])
    return volume(np.ascontiguousarray(apply_orientation(source[0].numpy(), turn)), affine)


def positions_mm(shape, affine):
    """World position (3, *shape) of every voxel."""
    index = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"))
    return np.einsum("ij,jabc->iabc", affine[:3, :3], index) + affine[:3, 3].reshape(3, 1, 1, 1)


def scale_of(shape, affine):
    return 1.25 / np.linalg.norm(paper_affine(shape, affine)[:3, 0])


def corners_mm(shape, affine):
    """The eight outer corners, half a voxel beyond the centres, (3, 8)."""
    index = np.array(list(itertools.product(*((-0.5, size - 0.5) for size in shape)))).T
    return affine[:3, :3] @ index + affine[:3, 3:]


affines = st.builds(
    lambda mm, axes, signs, angles: affine_of(
        np.array(mm) * signs, rotation(angles[0], 0) @ rotation(angles[1], 2) @ np.eye(3)[:, axes]
    ),
    st.tuples(*[st.floats(0.3, 6.0)] * 3),
    st.permutations(range(3)),
    st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3),
    st.tuples(*[st.floats(-30, 30)] * 2),
)
shapes = st.tuples(*[st.integers(1, 600)] * 3)


@given(shapes, affines)
def test_one_factor_scales_all_axes_and_is_the_largest_that_crops_no_corner(shape, affine):
    scale, on_grid, size = scale_of(shape, affine), paper_affine(shape, affine), np.array((138, 256, 256))
    assert 0 < scale <= 0.5 + 1e-12
    np.testing.assert_allclose(np.linalg.norm(on_grid[:3, :3], axis=0) * scale, (1.25, 0.7168, 0.7168))
    index = (np.linalg.inv(on_grid) @ np.vstack([corners_mm(shape, affine), np.ones(8)]))[:3]
    assert (index.min(axis=1) >= -0.5 - 1e-6).all()
    assert (index.max(axis=1) <= size - 0.5 + 1e-6).all()
    assert scale == pytest.approx(0.5) or max(np.ptp(index, axis=1) / size) == pytest.approx(1)


@given(shapes, affines)
def test_the_grid_is_centred_on_the_scan_and_runs_superior_posterior_left(shape, affine):
    on_grid = paper_affine(shape, affine)
    np.testing.assert_allclose((on_grid @ [68.5, 127.5, 127.5, 1])[:3], corners_mm(shape, affine).mean(1), atol=1e-6)
    for axis, (array_axis, sign) in enumerate(reference.followed_axes(affine)):
        along, own = on_grid[:3, axis], affine[:3, array_axis]
        assert along @ own / (np.linalg.norm(along) * np.linalg.norm(own)) == pytest.approx(sign)


def test_a_scan_that_does_not_fit_at_half_size_is_scaled_further():
    assert scale_of((512, 512, 300), LPS) == pytest.approx(256 * 0.7168 / 384)
    assert scale_of((400, 400, 300), LPS) == pytest.approx(0.5)
    assert scale_of((400, 400, 500), LPS) == pytest.approx(138 * 1.25 / 500)


def test_a_voxel_lands_where_its_world_position_is():
    """Voxels of 1.4336 x 1.4336 x 2.5 mm are those of the grid at one half, so each falls on one point of it."""
    shape, affine = (10, 8, 6), np.diag([1.4336, -1.4336, -2.5, 1.0])
    image, lung = np.full(shape, -1350.0, np.float32), np.ones(shape, np.uint8)
    image[2, 3, 1] = 150.0  # stored from Left to Right, Anterior to Posterior, Superior to Inferior
    data = {"image": volume(image, affine), "lung": volume(lung, affine)}
    on_grid = PaperGridd(grid=(12, 14, 18))(data)["image"]
    expected = torch.zeros(12, 14, 18)
    expected[3 + (5 - 1), 3 + 3, 4 + (9 - 2)] = 1  # 3, 3 and 4 voxels of padding; z and x are flipped
    assert torch.allclose(on_grid[0].as_tensor(), expected, atol=1e-5)
    at = on_grid.affine @ torch.tensor([7.0, 6, 11, 1], dtype=torch.float64)
    assert torch.allclose(at[:3], torch.tensor([2 * 1.4336, -3 * 1.4336, -2.5], dtype=torch.float64))


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("max_scale", [0.5, 0.23])
def test_it_equals_sampling_point_by_point(name, max_scale):
    """Sizes are odd throughout: where an even one met an odd one, the centre would lie midway between two voxels."""
    affine, shape, grid, spacing_mm = AFFINES[name], (7, 9, 5), (13, 11, 15), (1.25, 0.7168, 0.7)
    data = item_of(affine, shape)
    out = PaperGridd(grid=grid, spacing_mm=spacing_mm, max_scale=max_scale)(data)
    arrays = [data[key][0].numpy() for key in ("image", "lung", "infection")]
    expected = reference.paper_grid(*arrays, affine, grid, spacing_mm, max_scale, WINDOW)
    for key, array in zip(("image", "lung", "infection"), expected, strict=True):
        np.testing.assert_allclose(out[key][0].numpy(), array, atol=1e-3 / 1500)
    points = reference.grid_points_mm(shape, affine, grid, spacing_mm, max_scale)
    np.testing.assert_allclose(positions_mm(grid, out["image"].affine.numpy()), np.moveaxis(points, -1, 0), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    st.permutations(["RL", "AP", "SI"]),
    st.tuples(*[st.integers(0, 1)] * 3),
    st.sampled_from([(1.0, 1.0, 1.0), (0.7168, 0.7168, 1.25), (0.9, 1.1, 2.3)]),
)
def test_the_storage_order_changes_nothing(axes, ends, voxel_mm):
    """The second voxel size puts every point of the grid midway between voxels, where nearest is a matter of choice."""
    codes = [axis[end] for axis, end in zip(axes, ends, strict=True)]
    data, transform = item_of(affine_of(voxel_mm), (8, 10, 6)), PaperGridd(grid=(6, 8, 10))
    other = {key: stored_as(value, codes) for key, value in data.items()}
    mixed = {**other, "lung": data["lung"]}
    expected = transform(data)
    for out in (transform(other), transform(mixed)):
        for key in ("lung", "infection"):
            assert torch.equal(out[key], expected[key])
        np.testing.assert_allclose(out["image"], expected["image"], atol=1e-6)
        np.testing.assert_allclose(out["image"].affine, expected["image"].affine, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float64, np.float16])
@pytest.mark.parametrize("order", ["C", "F"])
def test_type_and_memory_layout_change_nothing(dtype, order):
    image = np.random.default_rng(1).integers(0, 200, (7, 8, 6)).astype(np.float32)
    data, transform = item_of(OBLIQUE, image=image), PaperGridd(grid=(9, 8, 11))
    laid = {
        key: volume(np.asarray(value[0].numpy().astype(dtype), order=order), OBLIQUE) for key, value in data.items()
    }
    out, expected = transform(laid), transform(data)
    for key in data:
        assert out[key].dtype == expected[key].dtype
        np.testing.assert_allclose(out[key], expected[key], atol=1e-6)


def test_half_precision_and_boolean_tensors_are_accepted():
    data, transform = item_of(OBLIQUE), PaperGridd(grid=(9, 8, 11))
    low = {key: volume.bool() if key != "image" else volume.to(torch.bfloat16) for key, volume in data.items()}
    out, expected = transform(low), transform({**data, "image": low["image"].float()})
    assert all(torch.equal(out[key], expected[key]) for key in data)


@given(st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_the_image_is_zero_outside_the_lungs_and_windowed_inside(seed):
    out = PaperGridd(grid=(9, 10, 11))(item_of(OBLIQUE, seed=seed))
    image, lung = out["image"].as_tensor(), out["lung"].as_tensor()
    assert image.dtype == torch.float32
    assert lung.dtype == out["infection"].dtype == torch.uint8
    assert set(lung.unique().tolist()) == {0, 1}
    assert image[lung == 0].abs().max() == 0
    assert 0 < image[lung == 1].max() <= 1


@pytest.mark.parametrize(
    ("window", "value"), [((-1350, 150), 0.4), ((-750, 0), 0.0), ((-1000, -750), 1.0), ((-1000, -800), 1.0)]
)
def test_the_window_maps_its_limits_to_zero_and_one(window, value):
    affine, shape = np.diag([-1.0, -1, 5, 1]), (3, 4, 1)  # a single slice is accepted too
    data = {"image": volume(np.full(shape, -750, np.int16), affine), "lung": volume(np.ones(shape, np.uint8), affine)}
    out = PaperGridd(grid=(4, 5, 6), window_hu=window)(data)
    inside = out["image"][out["lung"] == 1]
    assert inside.numel()
    assert torch.allclose(inside.as_tensor(), torch.tensor(value))


def dice(a, b):
    return 2 * np.count_nonzero(a * b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.mark.parametrize(
    ("voxel_mm", "shape", "grid", "apart", "difference", "overlap"),
    [
        ((5.7344, 5.7344, 10.0), (66, 56, 26), (50, 70, 72), 0.0, 0.008, 1.0),
        ((5.6, 5.4, 9.0), (66, 58, 28), (51, 70, 72), 0.4, 0.010, 0.9),
    ],
    ids=["sizes that divide", "sizes that are rounded"],
)
def test_it_equals_the_literal_chain_on_a_smooth_phantom(voxel_mm, shape, grid, apart, difference, overlap):
    """Limits: corner distance in voxels, mean difference in the lungs, Dice. The chain rounds and blurs more."""
    phantom = make_volume(2, shape, voxel_mm, lesions_ml={"ground_glass": 400.0, "consolidation": 100.0})
    image, spacing_mm = gaussian_filter(phantom.image_hu, 1.5), (5.0, 2.8672, 2.8672)
    arrays = {"image": image, "lung": phantom.lung, "infection": phantom.infection}
    data = {key: volume(array.astype(np.float32), phantom.affine) for key, array in arrays.items()}
    out = PaperGridd(grid=grid, spacing_mm=spacing_mm)(data)
    modes = {"image": "bilinear", "lung": "nearest", "infection": "nearest"}
    chain = {key: reference.literal_chain(data[key], modes[key], grid, spacing_mm, 0.5) for key in data}
    ours, theirs = (corners_mm(grid, item["image"].affine.numpy()) for item in (out, chain))
    assert np.abs((ours - theirs) / (2 * np.array(spacing_mm)[::-1, None])).max() <= apart + 1e-9
    grey = (np.clip(chain["image"].numpy(), *WINDOW) - WINDOW[0]) / 1500
    inside = (chain["lung"].numpy() * out["lung"].numpy()) > 0
    assert np.abs(grey - out["image"].numpy())[inside].mean() < difference
    assert min(dice(chain[key].numpy(), out[key].numpy()) for key in ("lung", "infection")) >= overlap


def invert(transform, item, attention, **options):
    options = {"nearest_interp": False, "to_tensor": True, **options}
    return Invertd("attention", transform, orig_keys="image", **options)({**item, "attention": MetaTensor(attention)})[
        "attention"
    ]


def wave(positions):
    return np.cos(positions[0] / 9 + 0.2) + np.sin(positions[1] / 11) * np.cos(positions[2] / 13)


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_image_on_the_grid_is_inverted_to_its_place(name, order):
    affine, shape = AFFINES[name], (13, 12, 11)
    transform = Compose([PaperGridd(grid=(32, 60, 62), max_scale=1.0)])
    image = np.zeros(shape, np.float32, order=order)
    item = transform(item_of(affine, shape, image=image))
    on_grid = positions_mm((32, 60, 62), item["image"].affine.numpy())
    back = invert(transform, item, torch.as_tensor(np.stack([on_grid[0], on_grid[2], wave(on_grid)])).float())
    here = positions_mm(shape, affine)
    assert torch.equal(back.affine, torch.as_tensor(affine))
    assert back.shape == (3, *shape)
    np.testing.assert_allclose(back[0], here[0], atol=1e-3)
    np.testing.assert_allclose(back[1], here[2], atol=1e-3)
    np.testing.assert_allclose(back[2], wave(here), atol=0.01)


def test_the_border_of_a_scan_that_fills_the_grid_keeps_the_edge_value():
    affine, shape = np.diag([-1.0, -1.0, 1.0, 1.0]), (8, 6, 12)
    transform = PaperGridd(grid=(6, 5, 7), spacing_mm=(1, 1, 1))
    item = transform(item_of(affine, shape))
    attention = torch.arange(6.0).reshape(1, 6, 1, 1).expand(1, 6, 5, 7)
    back = invert(transform, item, attention)
    along_z = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4.25, 4.75, 5])
    assert torch.allclose(back[0, 3, 2].as_tensor(), along_z)


def test_a_mask_on_the_grid_is_inverted_by_the_nearest_voxel():
    affine, shape = OBLIQUE, (13, 12, 11)
    transform = PaperGridd(grid=(32, 60, 62), max_scale=1.0)
    item = transform(item_of(affine, shape))
    back = transform.inverse({key: item[key] for key in ("lung", "infection")})
    predicted = invert(transform, item, item["infection"].as_tensor(), nearest_interp=True)
    native = item_of(affine, shape)
    for key in ("lung", "infection"):
        assert torch.equal(back[key], native[key])
    assert predicted.dtype == torch.uint8
    assert torch.equal(predicted, native["infection"])


def test_it_is_inverted_after_a_second_channel_a_flip_and_a_data_loader():
    affine, shape, grid = AFFINES["LPS"], (13, 12, 11), (32, 60, 62)
    transform = Compose([PaperGridd(grid=grid, max_scale=1.0), Flipd("image", spatial_axis=0)])
    (item,) = decollate_batch(next(iter(DataLoader(Dataset([item_of(affine, shape)], transform), batch_size=1))))
    item["image"] = torch.cat([item["image"], item["lung"]])
    on_grid = positions_mm(grid, item["image"].affine.numpy())
    back = invert(transform, item, torch.as_tensor(wave(on_grid)[None]).float())
    assert torch.equal(back.affine, torch.as_tensor(affine))
    np.testing.assert_allclose(back[0], wave(positions_mm(shape, affine)), atol=0.01)


def test_it_accepts_loaded_images_and_does_not_change_its_input(tmp_path):
    phantom = make_volume(seed=1, shape=(40, 36, 12), spacing_mm=(9.0, 9.5, 24.0))
    paths = {key: tmp_path / f"{key}.nii.gz" for key in ("image", "lung", "infection")}
    for path, array in zip(paths.values(), (phantom.image_hu, phantom.lung, phantom.infection), strict=True):
        nibabel.save(nibabel.Nifti1Image(array, phantom.affine), path)
    loaded = LoadImaged("image", reader=CTReader(), ensure_channel_first=True)({**paths, "label": 1})
    loaded = LoadImaged(["lung", "infection"], reader=LabelReader(), ensure_channel_first=True)(loaded)
    before = {key: loaded[key].clone() for key in paths}
    transform = PaperGridd(grid=(20, 30, 34))
    item = transform(loaded)
    assert item["label"] == 1
    assert item["image"].meta["filename_or_obj"] == str(paths["image"])
    for key, was in before.items():
        assert torch.equal(loaded[key], was)
        assert torch.equal(loaded[key].affine, was.affine)
    assert not loaded["image"].applied_operations
    assert invert(transform, item, torch.zeros(2, 20, 30, 34)).shape == (2, 40, 36, 12)


def test_an_attention_map_of_another_size_than_the_grid_is_rejected():
    transform = PaperGridd(grid=(9, 8, 11))
    item = transform({**item_of(OBLIQUE), "image": volume(np.zeros((7, 8, 6)), OBLIQUE, "scans/covid_017.nii.gz")})
    with pytest.raises(ValueError, match=r"Case covid_017: image is 3 x 8 x 11. Expected the grid's 9 x 8 x 11: ups"):
        invert(transform, item, torch.zeros(1, 3, 8, 11))


@pytest.mark.parametrize("infection", [{}, {"infection": None}])
def test_further_masks_may_be_missing_unless_they_are_required(infection):
    data = {key: value for key, value in item_of(OBLIQUE).items() if key != "infection"} | infection
    assert PaperGridd(grid=(9, 8, 11))(data).get("infection") is None
    with pytest.raises(ValueError, match="Case unknown: infection is missing"):
        PaperGridd(grid=(9, 8, 11), allow_missing_masks=False)(data)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lung", None, "lung is missing. Add it to the datalist"),
        ("image", None, "image is missing"),
        ("image", torch.zeros(1, 7, 8, 6), "image has no affine. Load it with LoadImaged"),
        ("image", MetaTensor(torch.zeros(2, 7, 8, 6)), r"image has shape \(2, 7, 8, 6\). Expected one volume \(1, X"),
        ("lung", MetaTensor(torch.zeros(7, 8, 6)), r"lung has shape \(7, 8, 6\). Expected one volume \(1, X, Y, Z\)"),
        ("lung", volume(np.zeros((8, 7, 6)), OBLIQUE), "lung is .* but the image is .* Export both at the same size"),
        ("infection", volume(np.zeros((7, 8, 6)), OBLIQUE + 3 * np.eye(4, k=3)), "infection is misaligned .* 3.0 mm"),
    ],
)
def test_input_other_than_a_scan_with_masks_is_rejected(key, value, message):
    with pytest.raises(ValueError, match=f"Case covid_017: {message}"):
        PaperGridd(grid=(9, 8, 11))({**item_of(OBLIQUE), "case_id": "covid_017", key: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": (138, 256)}, r"grid is \(138, 256\). Expected three whole numbers"),
        ({"grid": (0, 256, 256)}, "grid is .* Expected three whole"),
        ({"grid": (138.5, 256, 256)}, "grid is .* Expected three whole"),
        ({"spacing_mm": (1.25, -0.7, 0.7)}, r"spacing_mm is \(1.25, -0.7, 0.7\). Expected three sizes in mm"),
        ({"spacing_mm": (1.25, 0.7)}, "spacing_mm is .* Expected three sizes in mm"),
        ({"max_scale": 0}, "max_scale is 0. Expected a factor above 0 and at most 1"),
        ({"max_scale": 1.5}, "max_scale is 1.5. Expected a factor above 0 and at most 1"),
        ({"window_hu": (150, -1350)}, r"window_hu is \(150, -1350\). Expected its lower and upper end"),
    ],
)
def test_arguments_that_are_not_a_valid_grid_are_rejected_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        PaperGridd(**arguments)


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((5, 6), np.eye(4), r"shape \(5, 6\). Expected three sizes"),
        ((5, 6, 0), np.eye(4), r"shape \(5, 6, 0\). Expected three sizes"),
        ((5, 6, 7), np.eye(3), "Expected 4 x 4 numbers"),
        ((5, 6, 7), np.diag([1.0, 0, 1, 1]), "Expected 4 x 4 numbers, index to mm, with three different directions"),
        ((5, 6, 7), np.diag([1.0, np.nan, 1, 1]), "Expected 4 x 4 numbers"),
    ],
)
def test_an_invalid_geometry_is_rejected(shape, affine, message):
    with pytest.raises(ValueError, match=message):
        paper_affine(shape, affine)


def test_a_scan_of_512_x_512_x_300_costs_little():
    random = np.random.default_rng(0)
    image = random.integers(-1000, 100, (512, 512, 300), dtype=np.int16).astype(np.float32)
    masks = {key: volume((image[..., ::-1] > -500).astype(np.uint8), LPS) for key in ("lung", "infection")}
    data, transform = {"image": volume(image, LPS), **masks}, PaperGridd()
    assert yardsticks(lambda: transform(data)) < 8  # 4 in 2026
