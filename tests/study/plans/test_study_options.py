from pathlib import Path

import pytest
from custom_components.study.plans.cap_plan import CapStudy
from custom_components.study.plans.seg_plan import SegStudy
from custom_components.study.plans.study_options import StudyOptions, bundle_folder

from tests.bundles.conftest import ROOT
from tests.study.small_data import write_scans, write_slices

CAP, SEG = ROOT / "covid_cap_bundle", ROOT / "covid_seg_bundle"


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    return write_scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def slices(tmp_path_factory) -> Path:
    return write_slices(tmp_path_factory.mktemp("slices"), 30)


def cap(scans, tmp_path, **given) -> StudyOptions:
    return StudyOptions(CAP, tmp_path / "study", str(scans), **given)


def seg(slices, tmp_path, **given) -> StudyOptions:
    return StudyOptions(SEG, tmp_path / "study", str(slices), **given)


@pytest.mark.parametrize("name", ["covid_cap_bundle", "some/where/covid_seg_bundle/"])
def test_a_bundle_is_found_by_its_name(name):
    assert bundle_folder(name) == ROOT / Path(name).name


def test_a_bundle_is_found_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "my_cap").symlink_to(CAP)
    monkeypatch.chdir(tmp_path)
    assert bundle_folder("my_cap") == tmp_path / "my_cap"


@pytest.mark.parametrize("name", ["covid_bundle", "", "/nowhere"])
def test_a_bundle_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="Expected covid_cap_bundle or covid_seg_bundle, or the folder of one"):
        bundle_folder(name)


def test_by_default_a_study_is_the_papers_but_for_what_leaks(scans, slices, tmp_path):
    study = cap(scans, tmp_path).study()
    assert isinstance(study, CapStudy)
    assert (study.protocol, study.systems, study.test) == ("nested", ("plain_us", "attention_us", "attention_ss"), None)
    study = seg(slices, tmp_path).study()
    assert isinstance(study, SegStudy)
    assert (study.protocols, study.networks, study.num_folds) == (("group", "paper"), ("m", "m_a", "m_r", "unet"), 10)


def test_a_part_of_a_study_can_be_asked_for(scans, slices, tmp_path):
    assert cap(scans, tmp_path, systems=["attention_ss", "plain_us"]).study().systems == ("plain_us", "attention_ss")
    assert seg(slices, tmp_path, augmentation="with").study().augmentation == (True,)
    recipe = ["strong_augmentation.yaml", "dice_cross_entropy.yaml"]
    assert seg(slices, tmp_path, recipe=recipe).study().recipe == tuple(recipe)
    assert seg(slices, tmp_path, networks="unet", protocol="group", num_folds=4).study().runs()[-1].name == (
        "group/unet/not_augmented/fold_3/evaluate"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"protocol": "group"}, "protocol is 'group'. Expected one of: nested, paper"),
        ({"systems": ["attention_us", "ds"]}, "systems is 'ds'. Expected one of: plain_us, attention_us, attention_ss"),
        ({"systems": []}, "systems names none"),
        ({"networks": ["m"]}, "networks is no option of a study of covid_cap_bundle"),
        ({"recipe": ["size_balanced.yaml"]}, "recipe is no option of a study of covid_cap_bundle"),
        ({"num_folds": 5}, r"The datalist has 3 folds and num_folds is 5. Build it with build_datalist --num_folds 5"),
        ({"num_folds": 1}, "num_folds is 1. Expected a whole number, 2 or more"),
        ({"overrides": {"epoch": 3}}, "overrides set 'epoch', which no config of the bundle has"),
        ({"overrides": "epochs=3"}, "overrides is 'epochs=3'. Expected a mapping: --overrides"),
        ({"test_dir": "/nowhere"}, "Data set /nowhere does not exist"),
    ],
    ids=str,
)
def test_a_wrong_option_of_a_cap_study_is_told(scans, tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        cap(scans, tmp_path, **given).study()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"protocol": "nested"}, "protocol is 'nested'. Expected one of: group, paper, both"),
        ({"networks": ["m", "m-a"]}, "networks is 'm-a'. Expected one of: m, m_a, m_r, unet, flexible_unet"),
        ({"augmentation": "strong"}, "augmentation is 'strong'. Expected one of: both, with, without"),
        ({"recipe": "unet.yaml"}, "recipe is 'unet.yaml'. Expected one of: add_attention.yaml, contrast_augm"),
        ({"test_dir": "x"}, "test_dir is no option of a study of covid_seg_bundle"),
        ({"num_folds": 16}, "15 groups cannot make 16 folds"),
    ],
    ids=str,
)
def test_a_wrong_option_of_a_seg_study_is_told(slices, tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        seg(slices, tmp_path, **given).study()


@pytest.mark.parametrize("which", ["dataset_dir", "test_dir"])
def test_a_study_does_not_write_into_its_data(scans, tmp_path, which):
    places = {"dataset_dir": str(scans), "test_dir": str(scans)}
    (tmp_path / "link").symlink_to(scans)
    places = {name: str(tmp_path / "other") if name != which else value for name, value in places.items()}
    with pytest.raises(ValueError, match=f"output_dir lies in {which}. Name a folder outside"):
        StudyOptions(CAP, tmp_path / "link" / "study", **places)


def test_hashes_are_not_kept_where_nothing_shall_be_written(scans, tmp_path):
    cap(scans, tmp_path).study(keep_hashes=False)
    assert list(tmp_path.iterdir()) == []
    cap(scans, tmp_path).study()
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["data_hashes.json"]
