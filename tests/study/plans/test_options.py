from pathlib import Path

import pytest
from custom_components.study.plans.cap_study import CapStudy
from custom_components.study.plans.options import plan_cap_study, plan_seg_study, plan_study, studied_bundle
from custom_components.study.plans.seg_study import SegStudy
from custom_components.study.runs import fingerprints

from tests.bundles.conftest import ROOT
from tests.study.small_data import write_scans, write_slices

CAP, SEG = ROOT / "covid_cap_bundle", ROOT / "covid_seg_bundle"


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    return write_scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def slices(tmp_path_factory) -> Path:
    return write_slices(tmp_path_factory.mktemp("slices"), 30)


def cap(scans, tmp_path, **given) -> CapStudy:
    return plan_cap_study(CAP, tmp_path / "study", str(scans), **given)


def seg(slices, tmp_path, **given) -> SegStudy:
    return plan_seg_study(SEG, tmp_path / "study", str(slices), **given)


def test_a_bundle_is_found_by_its_name_or_path(tmp_path, monkeypatch):
    for name in ("covid_cap_bundle", "some/where/covid_seg_bundle/"):
        assert studied_bundle(name) == ROOT / Path(name).name
    (tmp_path / "my_cap").symlink_to(CAP)
    monkeypatch.chdir(tmp_path)
    assert studied_bundle("my_cap") == tmp_path / "my_cap"


@pytest.mark.parametrize("name", ["covid_bundle", "", "/nowhere"])
def test_an_unknown_bundle_is_refused(name):
    with pytest.raises(ValueError, match="Expected covid_cap_bundle or covid_seg_bundle, or the path"):
        studied_bundle(name)


def test_by_default_a_study_is_the_papers_without_its_leaks(scans, slices, tmp_path):
    study = cap(scans, tmp_path)
    assert (study.protocol, study.systems, study.test) == ("nested", ("plain_us", "attention_us", "attention_ss"), None)
    study = seg(slices, tmp_path)
    assert (study.protocols, study.networks, study.num_folds) == (("group", "paper"), ("m", "m_a", "m_r", "unet"), 10)


def test_a_part_of_a_study_can_be_selected(scans, slices, tmp_path):
    assert cap(scans, tmp_path, systems=["attention_ss", "plain_us"]).systems == ("plain_us", "attention_ss")
    assert seg(slices, tmp_path, augmentation="with").augmentation == (True,)
    recipe = ["strong_augmentation.yaml", "dice_cross_entropy.yaml"]
    assert seg(slices, tmp_path, recipe=recipe).recipe == tuple(recipe)
    assert seg(slices, tmp_path, networks="unet", protocol="group", num_folds=4).runs()[-1].name == (
        "group/unet/not_augmented/fold_3/evaluate"
    )


CAP_ERRORS = [
    ({"protocol": "group"}, "protocol is 'group'. Expected one of: nested, paper"),
    ({"systems": ["attention_us", "ds"]}, "systems is 'ds'. Expected one of: plain_us, attention_us, attention_ss"),
    ({"systems": []}, "systems is empty"),
    ({"num_folds": 5}, "The datalist has 3 folds, but num_folds is 5. Build the datalist with build_datalist --num_fo"),
    ({"num_panels": -1}, "num_panels is -1. Expected a whole number, 0 or more"),
    ({"num_folds": 1}, "num_folds is 1. Expected a whole number, 2 or more"),
    ({"overrides": {"epoch": 3}}, "overrides sets 'epoch', but no config of the bundle has it"),
    ({"overrides": "epochs=3"}, "overrides is 'epochs=3'. Expected a mapping: --overrides"),
    ({"test_dir": "/nowhere"}, "Data set /nowhere does not exist"),
    ({"seconds_per_step": 0, "dry_run": True}, "seconds_per_step is 0. Expected the seconds of one training step"),
    ({"seconds_per_step": "12 s", "dry_run": True}, "seconds_per_step is '12 s'. Expected the seconds"),
    ({"seconds_per_step": 12.5}, "seconds_per_step has no effect on the runs. Add --dry_run, or remove it"),
]
SEG_ERRORS = [
    ({"protocol": "nested"}, "protocol is 'nested'. Expected one of: group, paper, both"),
    ({"networks": ["m", "m-a"]}, "networks is 'm-a'. Expected one of: m, m_a, m_r, unet, flexible_unet"),
    ({"augmentation": "strong"}, "augmentation is 'strong'. Expected one of: both, with, without"),
    ({"recipe": "unet.yaml"}, "recipe is 'unet.yaml'. Expected one of: add_attention.yaml, body_and_l"),
    ({"num_folds": 16}, "15 groups cannot make 16 folds"),
]


@pytest.mark.parametrize(
    ("plan", "given", "message"),
    [*((cap, *own) for own in CAP_ERRORS), *((seg, *own) for own in SEG_ERRORS)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_wrong_option_is_an_error(scans, slices, tmp_path, plan, given, message):
    with pytest.raises(ValueError, match=message):
        plan(scans if plan is cap else slices, tmp_path, **given)


@pytest.mark.parametrize(
    ("bundle", "option"),
    [("covid_cap_bundle", "networks"), ("covid_cap_bundle", "recipe"), ("covid_seg_bundle", "test_dir")],
)
def test_an_option_of_the_other_bundle_is_refused(tmp_path, bundle, option):
    with pytest.raises(ValueError, match=f"Option {option} is not supported for a study of {bundle}. Remove it"):
        plan_study(bundle, tmp_path, "phantom", **{option: "x"})


def test_an_option_that_is_not_given_has_its_default(slices, tmp_path):
    given = {"num_folds": None, "networks": None, "num_panels": None}
    assert plan_study(str(SEG), tmp_path / "study", str(slices), **given) == seg(slices, tmp_path)


@pytest.mark.parametrize("which", ["dataset_dir", "test_dir"])
def test_a_study_does_not_write_into_its_data(scans, tmp_path, which):
    places = {"dataset_dir": str(scans), "test_dir": str(scans)}
    (tmp_path / "link").symlink_to(scans)
    places = {name: str(tmp_path / "other") if name != which else value for name, value in places.items()}
    with pytest.raises(ValueError, match=f"output_dir is inside {which}. Choose a folder outside"):
        plan_cap_study(CAP, tmp_path / "link" / "study", **places)


def test_a_dry_run_writes_nothing_and_reads_the_data_only_if_runs_may_have_finished(scans, tmp_path, monkeypatch):
    read = []
    digest = fingerprints.file_digest
    monkeypatch.setattr(fingerprints, "file_digest", lambda file: read.append(file) or digest(file))
    assert {run.data for run in cap(scans, tmp_path, dry_run=True).runs()} == {""}
    assert read == list(tmp_path.iterdir()) == []
    (real,) = {run.data for run in cap(scans, tmp_path).runs()}
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["data_hashes.json"]
    assert len(read) == 36
    (tmp_path / "study/runs").mkdir()
    before = (tmp_path / "study/data_hashes.json").read_bytes()
    assert {run.data for run in cap(scans, tmp_path, dry_run=True).runs()} == {real}
    assert len(read) == 36  # the hashes of the study are used
    (tmp_path / "study/data_hashes.json").write_text("{}", encoding="utf-8")
    assert {run.data for run in cap(scans, tmp_path, dry_run=True).runs()} == {real}
    assert (tmp_path / "study/data_hashes.json").read_text(encoding="utf-8") == "{}" != before.decode()
