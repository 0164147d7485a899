import nibabel
import numpy as np
import pytest
from custom_components.datalists.folds import assign_folds
from custom_components.datalists.scans import list_scans
from custom_components.datasets.cc_ccii import convert_cc_ccii
from custom_components.datasets.cc_ccii_tables import Cleaning, read_cleaned
from custom_components.datasets.slice_images import distinct_slices, jumps, numbered_files
from custom_components.phantom import make_volume
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.datasets.published import cases_of, reasons_of
from tests.real_data import real_data

COUNT = 16
SHAPE = (40, 44, COUNT)
HEADER = "cls,pid,scan_id,is_seg,is_repeat,repeat_ids,re_order\n"


def window(hu):
    """The lung window in 8 bits."""
    return np.rint((np.clip(hu, -1350, 150) + 1350) / 1500 * 255).astype(np.uint8)


def slices_of(seed, shape=SHAPE):
    """Slices of a phantom from head to feet, rows to Posterior, columns to Left."""
    phantom = make_volume(seed=seed, shape=shape, spacing_mm=(9.0, 8.5, 288.0 / shape[2]))
    return window(phantom.image_hu).transpose(2, 1, 0)[::-1]


@pytest.fixture(scope="module")
def scans():
    return [slices_of(seed) for seed in range(6)]


def write_scan(folder, slices, suffix="png", names=None):
    folder.mkdir(parents=True)
    for k, one in zip(range(len(slices)) if names is None else names, slices, strict=True):
        Image.fromarray(one).save(folder / f"{k:04d}.{suffix}", **({"quality": 100} if suffix == "jpg" else {}))


@pytest.fixture
def published(tmp_path, scans):
    """Two scans of patient 16, one each of 17, CP 1070 and Normal 742; each archive in its own folder."""
    places = ["NCP/16/1164", "NCP/16/1165", "NCP/17/1166", "CP/1070/3112", "Normal/742/177"]
    for place, slices in zip(places, scans, strict=False):
        archive = {"N": "COVID19-1", "C": "CP-1"}.get(place[0], "Normal-1") if "Normal" not in place else "Normal-1"
        write_scan(tmp_path / "set" / archive / place, slices, "jpg" if "1166" in place else "png")
    lines = [f"{place.split('/')[0]}-1.zip,{place.replace('/', ',')},{COUNT}" for place in places]
    (tmp_path / "set" / "unzip_filenames.csv").write_text(
        "\n".join(["zip_file,label,patient_id,scan_id,n_slice", *lines])
    )
    (tmp_path / "set" / "metadata.csv").write_text(
        "patient_id,scan_id,Age,Sex(Male1/Female2)\n16,1164,61,2\n17,1166,,1\n"
    )
    return tmp_path / "set"


def folder_of(published, scan):
    [folder] = published.glob(f"*/*/*/{scan}")
    return folder


def test_slices_become_volumes_in_pseudo_hu_from_feet_to_head(published, tmp_path, scans):
    path = convert_cc_ccii(published, tmp_path / "out")
    cases = cases_of(path)
    assert cases["NCP_16_1164"] == {
        "case_id": "NCP_16_1164", "patient_id": "16", "image": "images/NCP_16_1164.nii.gz", "label": "covid",
        "sex": "F", "age": 61,
    }  # fmt: skip
    assert {name: case["label"] for name, case in cases.items()} == {
        "NCP_16_1164": "covid", "NCP_16_1165": "covid", "NCP_17_1166": "covid", "CP_1070_3112": "cap"
    }  # fmt: skip
    assert cases["NCP_17_1166"]["sex"] == "M"
    assert "age" not in cases["NCP_17_1166"]
    image = nibabel.load(path.parent / cases["NCP_16_1164"]["image"])
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    assert image.shape == SHAPE
    np.testing.assert_allclose(image.header.get_zooms(), (350 / 40, 350 / 40, 300 / COUNT), rtol=1e-6)
    expected = np.rint(-1350 + scans[0] / 255 * 1500)[::-1].transpose(2, 1, 0)
    np.testing.assert_allclose(image.get_fdata(), expected, atol=1)


def test_jpegs_are_close_to_the_same(published, tmp_path, scans):
    path = convert_cc_ccii(published, tmp_path / "out")
    hu = nibabel.load(path.parent / cases_of(path)["NCP_17_1166"]["image"]).get_fdata()
    assert np.abs(hu - (-1350 + scans[2] / 255 * 1500)[::-1].transpose(2, 1, 0)).mean() < 12


def test_assumptions_are_options(published, tmp_path, scans):
    (tmp_path / "known.csv").write_text("scan_id,pixel_mm,slice_mm\n1164,0.7,5\n")
    options = {"window_hu": (-1200, 600), "field_of_view_mm": 400, "height_mm": 320, "first": "feet"}
    path = convert_cc_ccii(published, tmp_path / "out", spacings=tmp_path / "known.csv", **options)
    first, other = (
        nibabel.load(path.parent / cases_of(path)[name]["image"]) for name in ("NCP_16_1164", "NCP_16_1165")
    )
    np.testing.assert_allclose(first.header.get_zooms(), (0.7, 0.7, 5.0), rtol=1e-6)
    np.testing.assert_allclose(other.header.get_zooms(), (10, 10, 20), rtol=1e-6)
    np.testing.assert_allclose(first.get_fdata(), (-1200 + scans[0] / 255 * 1800).transpose(2, 1, 0), atol=1)


def test_all_scans_of_a_patient_get_one_fold(published, tmp_path, scans):
    write_scan(published / "CP-1" / "CP" / "1071" / "3113", scans[5])
    cases = cases_of(convert_cc_ccii(published, tmp_path / "out")).values()
    listed = [{**case, "label": int(case["label"] == "covid"), "group": case["label"]} for case in cases]
    folds = dict(zip([case["case_id"] for case in listed], assign_folds(listed, 2), strict=True))
    assert folds["NCP_16_1164"] == folds["NCP_16_1165"] != folds["NCP_17_1166"]


def test_normal_scans_are_left_out_unless_asked_for(published, tmp_path):
    assert reasons_of(convert_cc_ccii(published, tmp_path / "two"))["Normal_742_177"].startswith("Normal: ")
    path = convert_cc_ccii(published, tmp_path / "three", normals=True)
    assert cases_of(path)["Normal_742_177"]["label"] == "normal"
    assert "label" not in next(scan for scan in list_scans(path, labelled=False) if scan["case_id"] == "Normal_742_177")


def test_slices_are_in_the_order_of_their_numbers_not_of_their_names(published, tmp_path, scans):
    for path in folder_of(published, "1164").iterdir():
        path.rename(path.with_name(f"{int(path.stem)}.png"))
    path = convert_cc_ccii(published, tmp_path / "out")
    hu = nibabel.load(path.parent / cases_of(path)["NCP_16_1164"]["image"]).get_fdata()
    np.testing.assert_allclose(hu, (-1350 + scans[0] / 255 * 1500)[::-1].transpose(2, 1, 0), atol=1)


def without_tables(published):
    (published / "unzip_filenames.csv").unlink()


def test_blank_and_repeated_slices_are_dropped(published, tmp_path, scans):
    without_tables(published)
    folder = folder_of(published, "1164")
    for k in (COUNT, COUNT + 1):
        Image.fromarray(scans[0][k - COUNT]).save(folder / f"{k:04d}.png")
    Image.fromarray(scans[0][0] * 0).save(folder / f"{COUNT + 2:04d}.png")
    path = convert_cc_ccii(published, tmp_path / "out")
    assert nibabel.load(path.parent / cases_of(path)["NCP_16_1164"]["image"]).shape == SHAPE


def test_damaged_scans_are_left_out_each_with_its_reason(published, tmp_path, scans):
    shuffled = folder_of(published, "1165")
    for k in range(COUNT):
        Image.fromarray(scans[1][(k * 7) % COUNT]).save(shuffled / f"{k:04d}.png")
    (folder_of(published, "1166") / "0003.jpg").unlink()
    lines = (published / "unzip_filenames.csv").read_text()
    (published / "unzip_filenames.csv").write_text(f"{lines}\nNCP-13.zip,NCP,300,1746,90\n")
    cp = published / "CP-1" / "CP"
    write_scan(cp / "2000" / "1", scans[5][:5])
    write_scan(cp / "2000" / "2", scans[5])
    (cp / "2000" / "2" / "0004.png").write_bytes(b"\x89PNG")
    write_scan(cp / "2000" / "3", [*scans[5][:-1], scans[5][-1][:-1]])
    write_scan(cp / "2000" / "4", scans[5], names=[*range(8), *range(9, COUNT + 1)])
    write_scan(cp / "2000" / "5", scans[5])
    Image.fromarray(scans[5][0]).save(cp / "2000" / "5" / "0.png")
    write_scan(cp / "2000" / "6", scans[5])
    Image.fromarray(scans[5][0]).save(cp / "2000" / "6" / "scout.png")
    write_scan(published / "again" / "CP" / "1070" / "3112", scans[3])
    path = convert_cc_ccii(published, tmp_path / "out")
    assert set(cases_of(path)) == {"NCP_16_1164"}
    reasons = reasons_of(path)
    assert "do not fit together: the order is wrong, or slices are missing. Give the list" in reasons["NCP_16_1165"]
    assert reasons["NCP_17_1166"].endswith("15 slices, unzip_filenames.csv lists 16. Unpack NCP-1.zip again.")
    assert reasons["NCP_300_1746"].endswith("but there is no folder. Unpack NCP-13.zip.")
    assert "5 different slices. Expected 12 or more" in reasons["CP_2000_1"]
    assert "0004.png is truncated or not an image" in reasons["CP_2000_2"]
    assert "its slices have different sizes: 40 x 43, 40 x 44" in reasons["CP_2000_3"]
    assert "1 slices are missing, the first is 8" in reasons["CP_2000_4"]
    assert "0000.png and 0.png have the same slice number" in reasons["CP_2000_5"]
    assert "scout.png has no slice number" in reasons["CP_2000_6"]
    assert reasons["CP_1070_3112"] == "Case CP_1070_3112: two folders have this scan. Remove one of them."


def test_the_list_of_clean_scans_orders_drops_and_leaves_out(published, tmp_path, scans):
    folder = folder_of(published, "1164")
    order = [*range(8, COUNT), *range(8)]  # as it must be read
    for place, number in enumerate(order):
        Image.fromarray(scans[0][place]).save(folder / f"{number:04d}.png")
    (folder_of(published, "1166") / "0002.jpg").unlink()
    without_tables(published)
    rows = ["NCP,16,1164,0,0,,8-15+0-7", "NCP,16,1165,1,0,,", "NCP,17,1166,0,1,0;15,", "CP,1070,3112,0,1,discard,"]
    (tmp_path / "CT_cleaned.csv").write_text(HEADER + "\n".join(rows))
    path = convert_cc_ccii(published, tmp_path / "out", cleaned=tmp_path / "CT_cleaned.csv", normals=True)
    cases, reasons = cases_of(path), reasons_of(path)
    hu = nibabel.load(path.parent / cases["NCP_16_1164"]["image"]).get_fdata()
    np.testing.assert_allclose(hu, (-1350 + scans[0] / 255 * 1500)[::-1].transpose(2, 1, 0), atol=1)
    assert nibabel.load(path.parent / cases["NCP_17_1166"]["image"]).shape[2] == COUNT - 3
    assert {name: reason.split(": it ")[1] for name, reason in reasons.items()} == {
        "NCP_16_1165": "shows only the lungs, according to the list of clean scans.",
        "CP_1070_3112": "is discarded, according to the list of clean scans.",
        "Normal_742_177": "is not listed, according to the list of clean scans.",
    }


@given(st.integers(1, 40), st.integers(0, 39))
def test_a_rotated_order_lists_each_slice_once_and_a_reversal_of_it_too(count, start):
    start %= count
    order = "+".join(f"{first}-{last}" for first, last in ((start, count - 1), (0, start - 1)) if first <= last)
    assert Cleaning(False, "", order).apply(range(count)) == [*range(start, count), *range(start)]
    assert Cleaning(False, "", "reverse").apply(range(count)) == [*range(count)][::-1]


def test_repeated_spans_and_single_slices_are_dropped():
    assert Cleaning(False, "0-2;5", "").apply(range(8)) == [3, 4, 6, 7]
    assert Cleaning(False, "discard", "").apply(range(8)) == [*range(8)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "NCP,1,2,0,1,a-b,\n", "Expected numbers and spans such as"),
        ("cls,pid\nNCP,1\n", "has no scan_id, is_seg, repeat_ids, re_order"),
        (HEADER, "has no rows"),
    ],
)
def test_another_list_is_refused(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_cleaned(tmp_path / "list.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_hu": (150, -1350)}, "Expected the HU of 0 and 255"),
        ({"height_mm": 0.3}, "Expected 100 to 700 mm"),
        ({"first": "up"}, "first is 'up'. Expected head or feet"),
    ],
)
def test_assumptions_that_are_not_plausible_are_refused(published, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        convert_cc_ccii(published, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["scan_id,pixel_mm,slice_mm\n1164,0.7,0\n", "scan_id,pixel_mm,slice_mm\n1164,a,1\n"])
def test_known_sizes_that_are_not_sizes_are_refused(published, tmp_path, text):
    (tmp_path / "known.csv").write_text(text)
    with pytest.raises(ValueError, match="Expected sizes in mm"):
        convert_cc_ccii(published, tmp_path / "out", spacings=tmp_path / "known.csv")


def test_another_folder_is_rejected(tmp_path):
    (tmp_path / "in" / "NCP").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"has no scans. Expected NCP/<patient>/<scan>/0000.png"):
        convert_cc_ccii(tmp_path / "in", tmp_path / "out")


def test_hidden_files_are_no_slices(tmp_path):
    write_scan(tmp_path / "scan", np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    (tmp_path / "scan" / "._0000.png").write_bytes(b"\0")
    (tmp_path / "scan" / "Thumbs.db").write_bytes(b"\0")
    assert list(numbered_files(tmp_path / "scan", "a")) == [0, 1]


@given(st.lists(st.integers(0, 5), max_size=12))
def test_each_content_is_kept_once_at_its_first_place(values):
    grey = np.array([np.full((2, 3), value) + np.arange(3) * (value > 0) for value in values]).reshape(-1, 2, 3)
    kept = [values[k] for k in distinct_slices(grey)]
    assert kept == [value for value in dict.fromkeys(values) if value > 0]


@pytest.mark.parametrize("seed", range(6))
def test_swapped_shuffled_and_text_sorted_slices_are_jumps_and_ordered_ones_are_not(seed):
    grey = slices_of(seed, (40, 44, 48))[8:40]  # a phantom's lungs begin abruptly, and its ends are alike
    assert jumps(grey) == jumps(grey[::-1]) == []
    assert jumps(np.roll(grey, 16, axis=0)) == [16]
    assert jumps(grey[np.random.default_rng(seed).permutation(32)])
    assert jumps(grey[sorted(range(32), key=str)])


@pytest.mark.slow
@pytest.mark.real_data
def test_on_real_cts_ordered_slices_have_no_jumps_and_disordered_ones_have():
    files = [*real_data("lung_ct").glob("*.npz"), *real_data("effusion_ct").glob("*.npz")]
    assert len(files) == 12
    for path in files:
        whole = window(np.load(path)["ct"].astype(np.int16) * 8 - 1350)
        for grey in (whole, whole[::3]):
            count = len(grey)
            assert jumps(grey) == []
            assert count // 2 in jumps(np.roll(grey, count // 2, axis=0))
            assert len(jumps(grey[np.random.default_rng(0).permutation(count)])) > count / 4
            assert jumps(grey[sorted(range(count), key=str)])
