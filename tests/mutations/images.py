"""Mistakes in where a voxel lies, in what it holds, and in what of it is kept."""

# ruff: noqa: E501 - a mutation is a line, and is seen as one

from tests.mutations.mutation import mutations_of

GRID = (
    mutations_of(
        "transforms/paper_grid.py",
        "transforms/test_paper_grid.py",
        ("x to the right", 'AXCODES = "SPL"', 'AXCODES = "SPR"'),
        ("y to the front", 'AXCODES = "SPL"', 'AXCODES = "SAL"'),
        ("axes in another order", 'AXCODES = "SPL"', 'AXCODES = "LPS"'),
        ("scans larger than one half", "float(min(max_scale, *(", "float(min(1.0, *("),
        ("one half by default", "MAX_SCALE = 0.5", "MAX_SCALE = 0.4"),
        ("spacing in the order x, y, z", "SPACING_MM = (1.25, 0.7168, 0.7168)", "SPACING_MM = (0.7168, 0.7168, 1.25)"),
        ("another grid by default", "GRID = (138, 256, 256)", "GRID = (144, 256, 256)"),
        ("half a voxel beside the centre", "(np.asarray(shape)[axes] - 1) / 2 - step", "np.asarray(shape)[axes] / 2 - step"),
        ("not multiplied by the lungs", " * item[self.lung_key][0].numpy()", ""),
        ("HU beyond the window", "np.clip((hu - np.float32(low)) / np.float32(high - low), 0, 1)", "(hu - np.float32(low)) / np.float32(high - low)"),
        ("masks by linear interpolation", "_onto(mask, affine, self.grid, NEAREST)", "_onto(mask, affine, self.grid, LINEAR)"),
        ("the voxel below for the nearest", "np.floor(position + 0.5)", "np.floor(position)"),
        ("the nearest voxel beyond the scan", "[(voxel < 0) | (voxel > last)] = 0", "[(voxel < -9) | (voxel > last + 9)] = 0"),
        ("storage order decides ties", "TIE_VOXELS = 1e-3", "TIE_VOXELS = 0.0"),
        ("voxel sizes by world axis", "np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)", "np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=1)"),
    )
    + mutations_of(
        "labels.py",
        "images/test_ct_reader.py transforms/test_paper_grid.py",
        ("another window", "LUNG_WINDOW_HU = (-1350.0, 150.0)", "LUNG_WINDOW_HU = (-1350.0, 250.0)"),
    )
    + mutations_of(
        "images/ct_reader.py",
        "images/test_ct_reader.py",
        ("grey 256 is the window's end", "grey.astype(np.float64) / 255", "grey.astype(np.float64) / 256"),
    )
    + mutations_of(
        "transforms/augmentations.py",
        "transforms/test_augmentations.py",
        ("denser by a share of the HU", "hu + tissue * (TISSUE_HU - hu)", "hu - tissue * hu"),
        ("the front is denser", "torch.linspace(-0.5, 0.5, image.shape[2])", "torch.linspace(0.5, -0.5, image.shape[2])"),
        ("tissue outside of the lungs too", "torch.where(lung & (hu < TISSUE_HU)", "torch.where((lung | ~lung) & (hu < TISSUE_HU)"),
    )
)  # fmt: skip

MASKS = (
    mutations_of(
        "transforms/infection_ratio.py",
        "transforms/test_infection_ratio.py",
        ("share of the scan", "_count(infection) / lung_voxels", "_count(infection) / math.prod(lung.shape)"),
        ("the ratio of the datalist is not kept", "if math.isfinite(item[self.ratio_key]):", "if False:"),
    )
    + mutations_of(
        "transforms/lesions_in_lungs.py",
        "transforms/test_lesions_in_lungs.py",
        ("consolidation is no lesion of the lungs", "IN_LUNG, BESIDE_LUNG = (1, 2), (3,)", "IN_LUNG, BESIDE_LUNG = (1,), (3,)"),
        ("distance in voxels", ", sampling=voxel_sizes(affine)) <= margin_mm", ") <= margin_mm"),
        ("the margin itself is outside", "sampling=voxel_sizes(affine)) <= margin_mm", "sampling=voxel_sizes(affine)) < margin_mm"),
        ("parts that touch at a corner are two", "ndimage.label(np.isin(lesions, BESIDE_LUNG), np.ones((3, 3, 3)))", "ndimage.label(np.isin(lesions, BESIDE_LUNG))"),
        ("effusion a thick voxel away is lost", "near | ndimage.binary_dilation(lungs != 0) if", "near if"),
        ("a margin of centimetres", "MARGIN_MM = 2.0", "MARGIN_MM = 20.0"),
    )
    + mutations_of(
        "transforms/small_lesions.py",
        "transforms/test_small_lesions.py",
        ("the smallest part is too small", "np.bincount(parts.ravel()) < smallest", "np.bincount(parts.ravel()) <= smallest"),
        ("classes hold each other together", "ndimage.label(lesions == label,", "ndimage.label(lesions > 0,"),
        ("parts that touch at a corner are two", ", np.ones((3,) * lesions.ndim))", ")"),
        ("share of the first two axes", "np.prod(sorted(shape)[-2:])", "np.prod(shape[:2])"),
        ("ten times the share", "SMALLEST = 0.0004", "SMALLEST = 0.004"),
    )
    + mutations_of(
        "transforms/attention_levels.py",
        "transforms/test_attention_levels.py",
        ("branches exchanged", "weight * us + (1 - weight) * ss", "weight * ss + (1 - weight) * us"),
        ("a level begins above its end", "levels += attention >= lower_end", "levels += attention > lower_end"),
        ("an unknown ratio is large", "return 0.5 if", "return 0.35 if"),
    )
    + mutations_of(
        "transforms/align_masks.py",
        "transforms/test_align_masks.py",
        ("the left lung is not lung", "{RIGHT: (1, RIGHT)}", "{RIGHT: (RIGHT,)}"),
        ("infection may have sides", "binary_mask(item[key], key == self.lung_key)", "binary_mask(item[key], True)"),
    )
    + mutations_of(
        "transforms/lungs/left_right.py",
        "transforms/lungs/test_left_right.py",
        ("sides exchanged", "(labels == left) * LEFT + (labels == right) * RIGHT", "(labels == left) * RIGHT + (labels == right) * LEFT"),
        ("the side of a single lung", "LEFT if _centre(mask) > middle else RIGHT", "RIGHT if _centre(mask) > middle else LEFT"),
    )
    + mutations_of(
        "transforms/lungs/segment_lungs.py",
        "transforms/lungs/test_segment_lungs.py",
        ("infected lung is no lung", "probability[LUNG:].sum(0)", "probability[LUNG]"),
        ("the network sees z, y, x", "image.permute(2, 1, 0)[None, None]", "image.permute(0, 1, 2)[None, None]"),
        ("another window of the network", "WINDOW_HU = (-1100, 0)", "WINDOW_HU = (-1350, 150)"),
    )
)  # fmt: skip

GEOMETRY = (
    mutations_of(
        "images/geometry.py",
        "images/test_geometry.py",
        ("axes turned the other way round", "permute(0, *(np.argsort(turn[:, 0]) + 1).tolist())", "permute(0, *(turn[:, 0].astype(int) + 1).tolist())"),
        ("the wrong axes are flipped", "np.flatnonzero(turn[:, 1] < 0)", "np.flatnonzero(turn[:, 1] > 0)"),
        ("a mask voxels beside passes", "SAME_PLACE = 0.1", "SAME_PLACE = 10"),
        ("two corners are enough", "for corner in product(*((0, size - 1) for size in image.shape))", "for corner in ((0, 0, 0), np.subtract(image.shape, 1))"),
    )
    + mutations_of(
        "inferers/flip_inferer.py",
        "inferers/test_flip_inferer.py",
        ("outputs are not flipped back", "network, *args, **kwargs).flip(dims)", "network, *args, **kwargs)"),
        ("divided by the mirror images alone", "total / (1 + len(combinations))", "total / max(1, len(combinations))"),
    )
    + mutations_of(
        "reports/dicom/segmentation.py",
        "reports/dicom/test_objects.py",
        ("rows upside down", "frames[:, row] = volume[:, row].T", "frames[:, row] = volume[:, -1 - row].T"),
        ("columns mirrored", "frames[:, row] = volume[:, row].T", "frames[:, row] = volume[::-1, row].T"),
        ("slices upside down", "np.moveaxis(frames[:segments], 0, -1)", "np.moveaxis(frames[:segments, ::-1], 0, -1)"),
        ("any label is the structure", "np.equal(arrays[structure.array], structure.value, out", "np.greater_equal(arrays[structure.array], structure.value, out"),
    )
    + mutations_of(
        "reports/dicom/structures.py",
        "reports/dicom/test_objects.py",
        ("lungs exchanged", '_lung("Left", LEFT, (', '_lung("Left", RIGHT, ('),
        ("lesion classes shifted", "LESION_CLASSES.index(name) + 1", "(LESION_CLASSES.index(name) + 1) % 3 + 1"),
    )
    + mutations_of(
        "reports/dicom/frames.py",
        "reports/dicom/test_objects.py",
        ("patient axes as NIfTI has them", "np.diag([-1.0, -1.0, 1.0, 1.0])", "np.diag([1.0, 1.0, 1.0, 1.0])"),
        ("an image of another pixel size passes", "AXIS_TOLERANCE = 0.01", "AXIS_TOLERANCE = 10"),
    )
    + mutations_of(
        "reports/dicom/source.py",
        "reports/dicom/test_objects.py",
        ("images in the order of the files", "[images[index] for index in np.argsort(slices)]", "list(images)"),
    )
    + mutations_of(
        "reports/dicom/attention_map.py",
        "reports/dicom/test_objects.py",
        ("slices of the map upside down", "made.FloatPixelData = frames.tobytes()", "made.FloatPixelData = frames[::-1].tobytes()"),
        ("rounded down", "np.rint(attention[:, row].T", "np.floor(attention[:, row].T"),
        ("the other branch's sampling", 'SAMPLING = {"us": "uniform", "ss": "size-balanced"}', 'SAMPLING = {"ss": "uniform", "us": "size-balanced"}'),
    )
    + mutations_of(
        "reports/dicom/measurements.py",
        "reports/dicom/test_objects.py",
        ("infection outside of the lungs counts", "(findings.infection != 0) & (findings.lungs != 0)", "findings.infection != 0"),
        ("volume in litres", "outlined.voxels * voxel_volume_ml(findings.affine)", "outlined.voxels * voxel_volume_ml(findings.affine) / 1000"),
        ("branches exchanged", '{"P_US": scores.p_us, "P_SS": scores.p_ss,', '{"P_US": scores.p_ss, "P_SS": scores.p_us,'),
    )
)  # fmt: skip

IMAGES = GRID + MASKS + GEOMETRY
