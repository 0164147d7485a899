"""Every written datalist is valid for the next commands, with headers and voxels."""

import shutil

import numpy as np
import pytest
from custom_components.datalists.check_lesions import check_infections, check_lesions
from custom_components.datalists.folds import hold_out_fold, select_fold
from custom_components.datalists.scans import list_scans
from custom_components.datalists.slices import list_cases
from custom_components.datasets.covid20_slices import convert_covid20_slices
from custom_components.datasets.covid_ct_md import convert_covid_ct_md
from custom_components.datasets.ct_excerpts import convert_ct_excerpts
from custom_components.datasets.datalist import build_datalist, check_datalist
from custom_components.datasets.medseg import convert_medseg
from custom_components.phantom import make_volume, write_dicom, write_scan_dataset
from custom_components.phantom.nifti import write_nifti_array

from tests.datasets.test_covid20_slices import run_of


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms") / "set"
    return write_scan_dataset(folder, 8, (44, 40, 24), (8.6, 9.0, 12.0), num_folds=2, minority=0)


def of_phantoms(folder, phantoms):
    return phantoms


def of_build_datalist(folder, phantoms):
    for kind in ("images", "lungs", "infections"):
        for disease in ("covid", "cap"):
            (folder / "set" / disease / kind).mkdir(parents=True)
            for path in (phantoms / kind).glob(f"{disease}_*"):
                shutil.copy(path, folder / "set" / disease / kind)
    return build_datalist(folder / "set", num_folds=2)


def of_covid_ct_md(folder, phantoms):
    phantom = make_volume(seed=1, shape=(40, 44, 12), spacing_mm=(9.0, 8.5, 24.0))
    masks = {"lungs": phantom.lung, "sick": phantom.label.clip(0, 1) * phantom.lung}
    for name in ("P001", "P002", "cap001", "cap002"):
        write_dicom(phantom, folder / "set" / name)
        for kind, mask in masks.items():
            write_nifti_array(mask, phantom, folder / kind / f"{name}.nii.gz")
    return convert_covid_ct_md(folder / "set", folder / "list.json", folder / "lungs", folder / "sick", num_folds=2)


def of_runs(folder, phantoms):
    """Two scans, with a slice of another scan between them."""
    first, alone, second = (run_of(count) for count in (4, 1, 5))
    between = {"ct": 255 - alone["ct"], "lung": alone["lung"], "infection": alone["infection"]}
    turned = {key: np.roll(value, 24, axis=1) for key, value in second.items()}
    np.savez(folder / "volume_0007.npz", **{k: np.concatenate([first[k], between[k], turned[k]]) for k in first})
    written = convert_covid20_slices(folder, folder / "out", num_folds=2)
    assert [scan["case_id"] for scan in list_scans(written)] == ["volume_0007_1", "volume_0007_3"]
    return written


TWO_CLASSES = {"phantom_scans": of_phantoms, "build_datalist": of_build_datalist, "convert_covid_ct_md": of_covid_ct_md}


@pytest.mark.parametrize("verb", [*TWO_CLASSES, "convert_covid20_slices"])
def test_a_written_datalist_of_scans_is_valid_for_training(tmp_path, phantoms, verb, caplog):
    written = {**TWO_CLASSES, "convert_covid20_slices": of_runs}[verb](tmp_path, phantoms)
    check_datalist(written)
    scans = list_scans(written)
    for fold in (0, 1):
        split = hold_out_fold(scans, fold)
        check_infections(training=split["training"], validation=split["validation"])
        if verb in TWO_CLASSES:
            assert select_fold(scans, fold)["training"]
    assert not [record for record in caplog.records if "infection in its mask" in record.getMessage()]


def test_phantom_scans_of_one_slice_are_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"shape is \(300, 300, 1\). Expected scans of two slices or more"):
        write_scan_dataset(tmp_path / "set", 8, (300, 300, 1), (1.2, 1.2, 7.0), num_folds=2)


def of_excerpts(folder):
    ct = np.full((2, 3, 5), 40, np.uint8)
    np.savez(folder / "one.npz", ct=ct, lung=ct // 40, spacing_mm=np.array([3.0, 1.5, 2.0]))
    return convert_ct_excerpts(folder, folder / "out")


def of_stacks(folder):
    phantom = make_volume(seed=1, shape=(40, 44, 12), spacing_mm=(9.0, 8.5, 24.0))
    write_nifti_array(phantom.image_hu, phantom, folder / "im.nii")
    write_nifti_array(phantom.label, phantom, folder / "mask.nii")
    return convert_medseg(folder / "im.nii", folder / "mask.nii", folder / "out")


@pytest.mark.parametrize("convert", [of_excerpts, of_stacks])
def test_a_written_datalist_of_slices_is_valid_and_has_lesion_classes(tmp_path, convert):
    cases = list_cases(convert(tmp_path))
    assert cases
    check_lesions(training=cases)
