import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from custom_components.datasets.ct_excerpts import EFFUSION, LUNG, OUTSIDE, UNSURE, convert_ct_excerpts, effusion_labels
from custom_components.phantom import make_volume
from nibabel.orientations import aff2axcodes


def write(folder: Path, **arrays: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    np.savez(folder / "one.npz", **arrays)
    return folder


def test_a_healthy_scan_keeps_its_hu_axes_and_size_and_lungs_coded_by_side(tmp_path: Path) -> None:
    ct, lung = np.zeros((2, 3, 5), np.uint8), np.zeros((2, 3, 5), np.uint8)
    ct[1, 2, 4], lung[1, 2, 4], lung[0, 0, 0] = 100, 2, 1
    source = write(tmp_path / "in", ct=ct, lung=lung, spacing_mm=np.array([3.0, 1.5, 2.0]))
    [case] = json.loads(convert_ct_excerpts(source, tmp_path / "out").read_text())["cases"]
    image, label = (nibabel.load(tmp_path / "out" / case[key]) for key in ("image", "label"))
    assert (image.shape, aff2axcodes(image.affine)) == ((5, 3, 2), ("L", "P", "S"))
    assert image.header.get_zooms() == (2.0, 1.5, 3.0)
    assert (image.dataobj[4, 2, 1], image.dataobj[0, 0, 0]) == (-550, -1350)
    assert label.get_fdata().sum() == 2 * LUNG
    assert case["label_sets"] == {str(OUTSIDE): [0], str(LUNG): [0]}


def test_only_far_from_lungs_and_effusion_is_known_to_be_background() -> None:
    phantom = make_volume(seed=1, shape=(100, 84, 50), spacing_mm=(4.0, 4.2, 6.0), lesions_ml={})
    effusion = np.zeros(phantom.image_hu.shape, np.uint8)
    effusion[50, 2, 3] = 1
    labels = effusion_labels(phantom.image_hu, effusion, phantom.spacing_mm, "one")
    assert labels[50, 2, 3] == EFFUSION
    assert [labels[50, 2 + far, 3] for far in (1, 2, 3)] == [UNSURE, UNSURE, OUTSIDE]  # 4.2, 8.4, 12.6 mm
    assert (labels[phantom.lung > 0] == LUNG).mean() > 0.95


@pytest.mark.parametrize("arrays", [{"ct": (2, 3, 4)}, {"lung": (2, 3, 4)}, {"ct": (2, 3, 4), "lung": (2, 3, 5)}])
def test_other_files_are_refused_by_name(tmp_path: Path, arrays: dict[str, tuple[int, ...]]) -> None:
    source = write(tmp_path / "in", **{name: np.zeros(shape, np.uint8) for name, shape in arrays.items()})
    with pytest.raises(ValueError, match=r"Case one: found .* Expected ct and one of effusion and lung"):
        convert_ct_excerpts(source, tmp_path / "out")


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no \.npz files"):
        convert_ct_excerpts(tmp_path, tmp_path / "out")


def test_a_broken_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"Case one cannot be read: .* Expected an \.npz"):
        convert_ct_excerpts(tmp_path / "in", tmp_path / "out")
