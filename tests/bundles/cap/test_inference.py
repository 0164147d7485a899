import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from custom_components.phantom import write_dicom
from custom_components.phantom.nifti import phantom_hu, write_nifti_array
from custom_components.weights.model_card import SYNTHETIC_ONLY
from PIL import Image

from tests.bundles.cap.conftest import KINDS, copy_scans, write_datalist
from tests.bundles.conftest import digests, rows_of

NAMES = ["covid_001", "covid_003", "cap_003"]
"""Of the fold that is left out of training; the first has the weight .96, the others .35."""

STEP = 1 / 255
"""Of the values of a written map."""


def array(image: nib.Nifti1Image) -> np.ndarray:
    return np.asarray(image.dataobj)


def turned(image: nib.Nifti1Image, axcodes: str) -> nib.Nifti1Image:
    target = nib.orientations.axcodes2ornt(axcodes)
    return image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), target))


def result_of(folder: Path) -> SimpleNamespace:
    """Report and maps of one case."""
    name = folder.name
    report = json.loads((folder / f"{name}_diagnosis.json").read_text(encoding="utf-8"))
    ends = {path.name.removeprefix(f"{name}_").removesuffix(".nii.gz"): path for path in folder.glob("*.nii.gz")}
    levels = nib.load(ends.pop("attention_levels"))
    maps = {end: nib.load(path) for end, path in ends.items()}
    picture = np.asarray(Image.open(folder / f"{name}_attention.png"))
    files = {path.name for path in folder.iterdir()}
    return SimpleNamespace(report=report, maps=maps, levels=levels, picture=picture, files=files)


@pytest.fixture(scope="session")
def infer(ensemble, bundle, tmp_path_factory):
    """Results of a data set, by case."""

    def call(dataset_dir: Path, out: Path | None = None, **more) -> dict[str, SimpleNamespace]:
        out = tmp_path_factory.mktemp("inferred") if out is None else out
        given = {"ckpt_path": ensemble.model_path, "output_dir": out, **more}
        bundle.run("inference.json", small=False, dataset_dir=dataset_dir, **given)
        return {folder.name: result_of(folder) for folder in sorted(out.iterdir())}

    return call


@pytest.fixture(scope="session")
def given(scans, tmp_path_factory) -> Path:
    """Three cases with their masks, as a folder."""
    return copy_scans(scans, tmp_path_factory.mktemp("given") / "in", NAMES)


@pytest.fixture(scope="session")
def results(infer, given) -> dict[str, SimpleNamespace]:
    before = digests(given)
    found = infer(given)
    assert digests(given) == before
    return found


def ratio_of(folder: Path, name: str) -> float:
    lung, infection = (array(nib.load(folder / f"{kind}s" / f"{name}.nii.gz")) for kind in ("lung", "infection"))
    return np.count_nonzero(infection) / np.count_nonzero(lung)


def test_a_case_gives_report_maps_and_picture(results):
    assert sorted(results) == sorted(NAMES)
    for name, result in results.items():
        ends = ("diagnosis.json", "attention.png", *(f"attention_{end}.nii.gz" for end in ("us", "ss", "levels")))
        assert result.files == {f"{name}_{end}" for end in ends}
        assert result.report["case_id"] == name


def test_the_maps_lie_on_the_ct_with_one_byte_a_voxel(results, given):
    for name, result in results.items():
        image = nib.load(given / "images" / f"{name}.nii.gz")
        for written in result.maps.values():
            assert written.shape == image.shape
            assert np.allclose(written.affine, image.affine, atol=1e-4)
            assert written.header.get_data_dtype() == np.uint8
            values = array(written)
            assert values.min() >= 0
            assert values.max() <= 1 + 1e-6  # the header keeps 1/255 in single precision


def weighted(result: SimpleNamespace) -> np.ndarray:
    """Both maps as Eq. 5 weights the branches; without ratio their mean."""
    weight = 0.5 if result.report["weight_us"] is None else result.report["weight_us"]
    return weight * array(result.maps["attention_us"]) + (1 - weight) * array(result.maps["attention_ss"])


def check_levels(result: SimpleNamespace) -> None:
    """Whole numbers of one byte on the grid of the maps: how many of .2, .4, .6, .8 the weighted attention reaches."""
    levels, attention = array(result.levels), weighted(result)
    assert result.levels.header.get_data_dtype() == levels.dtype == np.uint8
    assert levels.shape == attention.shape
    assert np.allclose(result.levels.affine, result.maps["attention_us"].affine, atol=1e-4)
    for level, lower_end in enumerate((0.2, 0.4, 0.6, 0.8), start=1):
        decided = np.abs(attention - lower_end) > STEP  # a written map is rounded
        assert ((levels >= level) == (attention >= lower_end))[decided].all()


def test_the_levels_cut_the_attention_that_eq_5_weights(results):
    for result in results.values():
        check_levels(result)
    assert np.unique(array(results[NAMES[0]].levels)).tolist() == [0, 1, 2, 3, 4]


def test_the_attention_is_worth_comparing(results):
    assert any(array(written).max() > 0.9 for result in results.values() for written in result.maps.values())
    assert not np.allclose(*(array(results[NAMES[0]].maps[end]) for end in ("attention_us", "attention_ss")))


def test_the_maps_are_interpolated_between_the_voxels_of_the_grid(results):
    """The scan's voxels are smaller than the grid's: the nearest of these would often serve two neighbours."""
    values = np.rint(array(results[NAMES[0]].maps["attention_us"]) / STEP)
    inside = (values[1:] > 50) & (values[:-1] > 50)
    assert inside.any()
    assert (values[1:] == values[:-1])[inside].mean() < 0.25  # 0.13; the nearest gives 0.37


def test_the_final_probability_weights_the_branches_by_the_ratio_of_the_native_masks(results, given):
    for name, result in results.items():
        report, ratio = result.report, ratio_of(given, name)
        assert report["ratio"] == pytest.approx(ratio, abs=1e-6)
        weight = 0.35 if ratio < 0.001 or ratio > 0.030 else 0.96
        assert report["weight_us"] == pytest.approx(weight)
        assert report["p_final"] == pytest.approx(weight * report["p_us"] + (1 - weight) * report["p_ss"], abs=2e-4)
        assert report["lung_source"] == "mask file"
        assert report["notes"] == [f"Weights {SYNTHETIC_ONLY}."]
    assert len({result.report["weight_us"] for result in results.values()}) == 2


def test_the_volumes_are_those_of_the_masks(results, given):
    for name, result in results.items():
        for kind in ("lung", "infection"):
            mask = nib.load(given / f"{kind}s" / f"{name}.nii.gz")
            volume_ml = np.count_nonzero(array(mask)) * np.prod(mask.header.get_zooms()) / 1000
            assert result.report[f"{kind}_volume_ml"] == pytest.approx(volume_ml, rel=1e-4)


def test_the_probabilities_are_those_of_the_evaluation(results, ensemble):
    """But for the steps of 1/255 in which evaluation caches a scan."""
    rows = {row["case_id"]: row for row in rows_of(ensemble.output_dir / "per_case.csv")}
    for name, result in results.items():
        for key, column in {"p_us": "p_us", "p_ss": "p_ss", "p_final": "probability"}.items():
            assert result.report[key] == pytest.approx(float(rows[name][column]), abs=0.02)
        assert result.report["ratio"] == pytest.approx(float(rows[name]["ratio"]), abs=1e-6)


@pytest.mark.parametrize("axcodes", ["RAS", "ASR"])
def test_a_scan_has_the_same_diagnosis_however_it_is_stored(infer, results, given, tmp_path, axcodes):
    name = NAMES[0]
    for kind in KINDS:
        image = nib.load(given / f"{kind}s" / f"{name}.nii.gz")
        (tmp_path / "in" / f"{kind}s").mkdir(parents=True)
        nib.save(turned(image, axcodes), tmp_path / "in" / f"{kind}s" / f"{name}.nii.gz")
    expected, found = results[name], infer(tmp_path / "in")[name]
    for key in ("p_us", "p_ss", "p_final", "ratio", "lung_volume_ml"):
        assert found.report[key] == pytest.approx(expected.report[key], abs=2e-4)
    for end, written in found.maps.items():
        assert nib.aff2axcodes(written.affine) == tuple(axcodes)
        again = turned(written, "".join(nib.aff2axcodes(expected.maps[end].affine)))
        assert np.allclose(again.affine, expected.maps[end].affine, atol=1e-3)
        assert np.abs(array(again) - array(expected.maps[end])).max() < 1.5 * STEP
    check_levels(found)
    again = turned(found.levels, "".join(nib.aff2axcodes(expected.levels.affine)))
    assert (array(again) != array(expected.levels)).mean() < 1e-4


@pytest.mark.parametrize("axcodes", ["RAS", "ASR"])
def test_a_mask_may_be_stored_otherwise_than_its_ct(infer, results, given, tmp_path, axcodes):
    """RAS has the sizes of the CT, so that nothing but the picture would show a mask that is drawn mirrored."""
    name = NAMES[0]
    copy_scans(given, tmp_path / "in", [name])
    for kind in ("lung", "infection"):
        path = tmp_path / "in" / f"{kind}s" / f"{name}.nii.gz"
        nib.save(turned(nib.load(given / f"{kind}s" / path.name), axcodes), path)
    found = infer(tmp_path / "in")[name]
    for key in ("p_us", "p_final", "ratio", "lung_volume_ml"):
        assert found.report[key] == pytest.approx(results[name].report[key], abs=2e-4)
    assert (found.picture != results[name].picture).mean() < 0.001


def test_a_dicom_folder_without_masks_runs_with_a_lung_mask_of_its_own(infer, scan, tmp_path):
    write_dicom(scan, tmp_path / "in" / "1.2.840.5")
    before = digests(tmp_path / "in")
    found = infer(tmp_path / "in" / "1.2.840.5")
    assert list(found) == ["1.2.840.5"]
    report = found["1.2.840.5"].report
    assert (report["p_final"], report["ratio"], report["weight_us"]) == (None, None, None)
    assert 0 < report["p_us"] < 1
    assert report["lung_source"] == "threshold and morphology (no model)"
    assert "The infection ratio is unknown without an infection mask" in report["notes"][1]
    assert "has no lung mask" in report["notes"][2]
    true_ml = scan.lung.sum() * np.prod(scan.spacing_mm) / 1000
    assert report["lung_volume_ml"] == pytest.approx(true_ml, rel=0.15)
    check_levels(found["1.2.840.5"])
    for written in found["1.2.840.5"].maps.values():
        assert written.shape == scan.lung.shape
        assert np.allclose(written.affine, scan.affine, atol=1e-3)
    assert digests(tmp_path / "in") == before
    assert "PHANTOM-0000" not in json.dumps(report)


def test_a_dicom_series_with_masks_has_the_diagnosis_of_its_nifti(infer, scan, tmp_path):
    write_nifti_array(phantom_hu(scan), scan, tmp_path / "nifti" / "images" / "a.nii.gz")
    write_dicom(scan, tmp_path / "dicom" / "images" / "a")
    reports = []
    for kind in ("nifti", "dicom"):
        write_nifti_array(scan.lung, scan, tmp_path / kind / "lungs" / "a.nii.gz")
        write_nifti_array(scan.infection, scan, tmp_path / kind / "infections" / "a.nii.gz")
        reports.append(infer(tmp_path / kind)["a"].report)
    for key in ("p_us", "p_ss", "p_final", "ratio"):
        assert reports[0][key] == pytest.approx(reports[1][key], abs=2e-4)


def test_the_ratio_of_a_datalist_serves_where_there_is_no_infection_mask(infer, given, tmp_path):
    copy_scans(given, tmp_path / "in", [NAMES[0]])
    entry = {"case_id": NAMES[0], "image": f"images/{NAMES[0]}.nii.gz", "lung": f"lungs/{NAMES[0]}.nii.gz"}
    report = infer(write_datalist(tmp_path / "in", [{**entry, "ratio": 0.02}]))[NAMES[0]].report
    assert (report["ratio"], report["weight_us"], report["infection_volume_ml"]) == (0.02, 0.96, None)
    assert report["p_final"] is not None


def test_the_plain_classifier_is_shown_with_the_branches(infer, results, plain, given, tmp_path):
    copy_scans(given, tmp_path / "in", NAMES[:1])
    more = {"plain_ckpt_path": plain.model}
    found = infer(tmp_path / "in", **more)[NAMES[0]]
    assert set(found.maps) == {"attention_us", "attention_ss", "attention_plain"}
    assert 0 < found.report["p_plain"] < 1
    assert found.report["p_plain"] != found.report["p_us"]
    assert found.report["p_us"] == results[NAMES[0]].report["p_us"]
    assert array(found.maps["attention_plain"]).max() > 0.5
