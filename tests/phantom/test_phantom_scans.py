import json
from collections import Counter
from functools import cache

import nibabel as nib
import numpy as np
import pytest
from custom_components.infection_size import CAP, COVID, SIZE_GROUPS, size_group
from custom_components.phantom import make_scan, phantom_scan_dataset, write_scan_dataset
from custom_components.phantom.body.disease import DISEASES, infected_voxels
from custom_components.phantom.scan_dataset import plan_scans
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

COARSE = {"shape": (50, 46, 20), "spacing_mm": (7.4, 7.8, 14.0)}
SEEDS = range(12)


@cache
def scans(disease):
    return [make_scan(disease, seed=seed, **COARSE) for seed in SEEDS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_scan_dataset(tmp_path_factory.mktemp("scans"), 20, **COARSE, seed=3, minority=0.4)


def cases(folder):
    return json.loads((folder / "datalist.json").read_text())["cases"]


def voxels(folder, entry, kind):
    return np.asarray(nib.load(folder / entry[kind]).dataobj)


def two_lungs(phantom):
    parts, count = ndimage.label(phantom.lung)
    right, left = np.argsort(-np.bincount(parts.ravel(), minlength=count + 1)[1:])[:2] + 1
    return parts == right, parts == left


def share_in_the_less_infected_lung(phantom):
    counts = [int(phantom.infection[lung].sum()) for lung in two_lungs(phantom)]
    return min(counts) / sum(counts)


def depth_below_the_chest_wall_mm(phantom):
    """Mean distance of infected voxels to the nearer of the lateral and the posterior border of their lung."""
    depths = []
    for x, y, z in zip(*np.nonzero(phantom.infection), strict=True):
        row, column = np.flatnonzero(phantom.lung[:, y, z]), np.flatnonzero(phantom.lung[x, :, z])
        lateral_mm = min(x - row[0], row[-1] - x) * phantom.spacing_mm[0]
        depths.append(min(lateral_mm, (column[-1] - y) * phantom.spacing_mm[1]))
    return np.mean(depths)


def patches(phantom):
    return ndimage.label(phantom.infection, np.ones((3, 3, 3)))[1]


def consolidated_share(phantom):
    return (phantom.label == 2).sum() / phantom.infection.sum()


@pytest.mark.parametrize("disease", DISEASES)
def test_infection_lies_in_the_lung_and_there_is_no_effusion(disease):
    for phantom in scans(disease):
        assert phantom.infection.any()
        assert phantom.lung[phantom.infection == 1].all()
        assert phantom.label.max() <= 2


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), covid=st.floats(0.002, 0.9), cap=st.floats(0.0006, 0.12))
def test_the_ratio_is_exact_to_one_voxel_and_in_its_size_group(seed, covid, cap):
    for disease, ratio in (("covid", covid), ("cap", cap)):
        phantom = make_scan(disease, ratio, seed, **COARSE)
        assert abs(phantom.infection.sum() - ratio * phantom.lung.sum()) < 1
        label = DISEASES[disease].label
        assert size_group(label, phantom.infection_ratio) == size_group(label, ratio)


@given(st.floats(0.0002, 1.0), st.sampled_from([COVID, CAP]), st.integers(5000, 10**6))
def test_the_number_of_voxels_is_near_the_ratio_and_in_its_group(ratio, label, lung):
    assume(ratio * lung >= 1)
    count = infected_voxels(ratio, label, lung, lung, "1")
    assert abs(count - ratio * lung) < 1
    assert size_group(label, count / lung) == size_group(label, ratio)


def test_the_size_group_is_more_important_than_the_nearest_voxel():
    assert infected_voxels(0.0016, CAP, 1000, 1000, "1") == 2
    assert infected_voxels(0.0014, CAP, 1000, 1000, "1") == 2, "1 voxel of 1000 would be small CAP"
    assert infected_voxels(0.0296, COVID, 100, 100, "1") == 2, "3 voxels of 100 would be large COVID-19"
    assert infected_voxels(0.0304, COVID, 100, 100, "1") == 3


@pytest.mark.parametrize(("disease", "usual", "rare"), [("covid", "large", "small"), ("cap", "small", "large")])
def test_the_rare_size_is_the_other_group_and_both_occur(disease, usual, rare):
    kind, rng = DISEASES[disease], np.random.default_rng(0)
    for is_rare, size in ((False, usual), (True, rare)):
        ratios = [kind.random_ratio(rng, is_rare) for _ in range(200)]
        assert {size_group(kind.label, ratio) for ratio in ratios} == {f"{disease}_{size}"}
        assert max(ratios) > 1.8 * min(ratios)
    groups = Counter(size_group(kind.label, phantom.infection_ratio) for phantom in scans(disease))
    assert groups[f"{disease}_{usual}"] > groups[f"{disease}_{rare}"] > 0


def test_covid_is_mostly_bilateral_and_cap_is_in_one_lung():
    assert all(share_in_the_less_infected_lung(phantom) == 0 for phantom in scans("cap"))
    assert 0.7 <= np.mean([share_in_the_less_infected_lung(phantom) > 0.1 for phantom in scans("covid")]) < 1


def test_covid_is_nearer_to_the_chest_wall_than_cap():
    covid, cap = ([depth_below_the_chest_wall_mm(phantom) for phantom in scans(name)] for name in ("covid", "cap"))
    assert np.mean(cap) > np.mean(covid) + 8
    assert roc_auc_score([0] * len(SEEDS) + [1] * len(SEEDS), covid + cap) > 0.75


def test_covid_has_several_patches_and_cap_of_the_same_size_has_one():
    covid, cap = ([patches(make_scan(name, 0.05, seed, **COARSE)) for seed in range(3)] for name in ("covid", "cap"))
    assert np.median(covid) >= 3
    assert np.median(cap) == 1


@pytest.mark.parametrize("disease", DISEASES)
def test_a_larger_infection_contains_a_smaller_one_of_the_same_seed(disease):
    small, large = (make_scan(disease, ratio, 5, **COARSE) for ratio in (0.03, 0.1))
    assert large.infection[small.infection == 1].all()


def test_covid_prefers_the_back():
    behind = [
        np.mean(np.nonzero(phantom.infection)[1]) - np.mean(np.nonzero(phantom.lung)[1]) for phantom in scans("covid")
    ]
    assert np.mean(behind) * COARSE["spacing_mm"][1] > 8


def test_cap_has_more_consolidation_than_covid_but_the_ranges_overlap():
    covid, cap = ([consolidated_share(phantom) for phantom in scans(name)] for name in ("covid", "cap"))
    assert np.mean(cap) > np.mean(covid) + 0.2
    assert min(covid) == 0
    assert max(covid) > min(cap)
    assert max(cap) < 1


def test_consolidation_of_cap_has_a_rim_of_ground_glass():
    phantom = make_scan("cap", 0.1, seed=4, **COARSE)
    dense = phantom.label == 2
    shell = ndimage.binary_dilation(dense) & ~dense & (phantom.lung == 1)
    assert (phantom.label[shell] == 1).mean() > 0.8


def test_the_hu_of_ground_glass_are_between_consolidation_and_healthy_lung():
    phantom = make_scan("cap", 0.1, seed=4, **COARSE)
    inner = {value: ndimage.binary_erosion(phantom.label == value) for value in (1, 2)}
    healthy = np.median(phantom.image_hu[(phantom.lung == 1) & (phantom.label == 0)])
    assert -100 < np.median(phantom.image_hu[inner[2]]) < 80
    assert healthy + 60 < np.median(phantom.image_hu[phantom.label == 1]) < -200


def test_neither_size_nor_density_separates_the_diseases(folder):
    entries = cases(folder)
    label = np.array([entry["label"] == "covid" for entry in entries])
    ratio = np.log([[entry["ratio"]] for entry in entries])
    assert 0.6 < LogisticRegression().fit(ratio, label).score(ratio, label) < 0.95
    mean_hu = [voxels(folder, e, "image")[voxels(folder, e, "infection") == 1].mean() for e in entries]
    assert 0.05 < roc_auc_score(label, mean_hu) < 0.45


def test_the_same_seed_gives_the_same_scan_and_the_global_random_state_is_unchanged():
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    for disease in DISEASES:
        again, first = make_scan(disease, seed=2, **COARSE), scans(disease)[2]
        for name in ("image_hu", "label", "lung"):
            np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_a_seed_has_the_same_anatomy_for_both_diseases():
    covid, cap, other = scans("covid")[1], scans("cap")[1], scans("cap")[2]
    np.testing.assert_array_equal(covid.lung, cap.lung)
    assert (covid.lung != other.lung).any()
    outside = ~ndimage.binary_dilation(covid.lung, iterations=3)
    np.testing.assert_allclose(covid.image_hu[outside], cap.image_hu[outside], atol=0.1)


@pytest.mark.parametrize("disease", DISEASES)
def test_another_examination_is_the_same_patient_with_other_lesions_and_noise(disease):
    first, second = (make_scan(disease, 0.05, 6, **COARSE, examination=number) for number in (0, 1))
    np.testing.assert_array_equal(first.lung, second.lung)
    shared = (first.infection & second.infection).sum() / first.infection.sum()
    assert shared < 0.8
    air = np.s_[20:30, :4]
    assert abs(np.corrcoef(first.image_hu[air].ravel(), second.image_hu[air].ravel())[0, 1]) < 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"disease": "flu"}, "disease is 'flu'. Expected one of covid, cap"),
        ({"ratio": 0.0}, "seed 7: infection ratio is 0.0. Expected infection volume / lung volume, above 0"),
        ({"ratio": 1.2}, "infection ratio is 1.2. Expected .* at most 1"),
        ({"ratio": float("nan")}, "infection ratio is nan"),
        ({"ratio": 8e-5}, r"8e-05 is 0.4\d of \d+ lung voxels. No whole number .* in the group cap_small. Use"),
        ({"examination": 0.5}, "examination is 0.5. Expected a whole number, 0 or more"),
    ],
)
def test_invalid_arguments_of_a_scan_are_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_scan(**{"disease": "cap", "seed": 7, **COARSE, **arguments})


def test_cap_larger_than_its_lobe_is_an_error_with_the_largest_ratio():
    with pytest.raises(ValueError, match=r"seed 3: infection ratio is 0.6, but the largest possible for cap") as error:
        make_scan("cap", 0.6, seed=3, **COARSE)
    largest = float(str(error.value).split("cap is ")[1].split(". ")[0])
    assert make_scan("cap", largest, seed=3, **COARSE).infection_ratio == pytest.approx(largest, abs=3e-4)
    assert largest > 0.12


SHARES = st.floats(0, 1)


@given(num_scans=st.integers(4, 200), minority=SHARES, num_folds=st.integers(2, 10))
def test_a_patient_is_in_one_fold_and_every_fold_has_scans(num_scans, minority, num_folds):
    assume(num_scans >= 4 * num_folds)
    plan = plan_scans(num_scans, minority, num_folds)
    patients = {}
    for scan in plan:
        patients.setdefault((scan.disease, scan.patient), set()).add((scan.fold, scan.rare))
    assert all(len(places) == 1 for places in patients.values())
    by_group = Counter()
    for (disease, _), places in patients.items():
        by_group[disease, min(places)[1]] += 1
    for disease in DISEASES:
        assert {scan.fold for scan in plan if scan.disease == disease} == set(range(num_folds))
        for rare in (False, True):
            folds = {scan.fold for scan in plan if (scan.disease, scan.rare) == (disease, rare)}
            assert len(folds) == min(num_folds, by_group[disease, rare])


@given(num_scans=st.integers(20, 200), more=st.integers(0, 50), minority=SHARES)
def test_half_of_the_scans_have_each_disease_and_more_scans_only_add_to_them(num_scans, more, minority):
    plan = plan_scans(num_scans, minority)
    assert set(plan) <= set(plan_scans(num_scans + more, minority))
    for disease, count in (("covid", (num_scans + 1) // 2), ("cap", num_scans // 2)):
        mine = [scan for scan in plan if scan.disease == disease]
        assert [scan.number for scan in mine] == list(range(count))
        assert sum(scan.rare for scan in mine) == pytest.approx(minority * count, abs=1.6)
        assert 0.6 * count < len({scan.patient for scan in mine}) < count


def test_the_datalist_agrees_with_its_files(folder):
    entries = cases(folder)
    assert [entry["case_id"] for entry in entries[:2]] == ["covid_000", "covid_001"]
    assert [entry["case_id"] for entry in entries[10:12]] == ["cap_000", "cap_001"]
    for entry in entries:
        images = {kind: nib.load(folder / entry[kind]) for kind in ("image", "lung", "infection")}
        assert {image.shape for image in images.values()} == {(50, 46, 20)}
        assert all(np.allclose(image.header.get_zooms(), COARSE["spacing_mm"]) for image in images.values())
        assert [images[kind].get_data_dtype() for kind in images] == [np.int16, np.uint8, np.uint8]
        lung, infection = voxels(folder, entry, "lung"), voxels(folder, entry, "infection")
        assert entry["ratio"] == pytest.approx(infection.sum() / lung.sum())
        assert entry["group"] == size_group(DISEASES[entry["label"]].label, entry["ratio"])
    assert entries[3]["infection"] == "infections/covid_003.nii.gz"


def test_every_fold_has_both_diseases_and_a_patient_is_in_one_fold(folder):
    entries = cases(folder)
    places = {(entry["patient_id"], entry["fold"], entry["group"]) for entry in entries}
    assert len(places) == len({entry["patient_id"] for entry in entries}) < len(entries)
    assert {(e["fold"], e["label"]) for e in entries} == {(f, name) for f in range(5) for name in DISEASES}
    assert {entry["group"] for entry in entries} == set(SIZE_GROUPS)


def test_scans_have_the_same_anatomy_only_if_the_patient_is_the_same(folder):
    entries = cases(folder)
    by_lung = {}
    for entry in entries:
        by_lung.setdefault(voxels(folder, entry, "lung").tobytes(), set()).add(entry["patient_id"])
    assert len(by_lung) == len({entry["patient_id"] for entry in entries})
    assert all(len(patients) == 1 for patients in by_lung.values())
    assert len({voxels(folder, entry, "infection").tobytes() for entry in entries}) == len(entries)


def test_the_same_seed_writes_the_same_files_and_another_seed_other_patients(folder, tmp_path):
    again = write_scan_dataset(tmp_path / "again", 4, **COARSE, seed=3, minority=0.4, num_folds=2)
    for path in again.rglob("*.nii.gz"):
        assert path.read_bytes() == (folder / path.relative_to(again)).read_bytes()
    other = write_scan_dataset(tmp_path / "other", 4, **COARSE, seed=4, minority=0.4, num_folds=2)
    lungs = {path.read_bytes() for path in (folder / "lungs").iterdir()}
    assert not lungs & {path.read_bytes() for path in (other / "lungs").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_scans": 1}, "num_scans is 1. Expected a whole number, 2 or more"),
        ({"num_folds": 1}, "num_folds is 1. Expected a whole number, 2 or more"),
        ({"seed": -1}, "seed is -1"),
        ({"minority": 1.5}, "minority is 1.5. Expected a share, 0 to 1"),
        ({"num_scans": 8}, "8 scans give 4 patients with covid, too few for 5 folds .* Decrease num_folds or increase"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "three positive numbers"),
    ],
)
def test_invalid_arguments_are_an_error_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_scan_dataset(tmp_path / "none", **arguments)
    assert not (tmp_path / "none").exists()


def test_the_cached_data_set_has_its_field_of_view_and_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_PHANTOM_CACHE", str(tmp_path))
    first = phantom_scan_dataset(num_scans=10, shape=(40, 36, 10))
    image = nib.load(first / cases(first)[0]["image"])
    np.testing.assert_allclose(image.header.get_zooms(), (9.36, 10.4, 28.0))
    written = (first / "datalist.json").stat().st_mtime_ns
    assert phantom_scan_dataset(num_scans=10, shape=(40, 36, 10)) == first
    assert (first / "datalist.json").stat().st_mtime_ns == written
    assert list(tmp_path.iterdir()) == [first]
    with pytest.raises(ValueError, match="at least 32"):
        phantom_scan_dataset(num_scans=10, shape=(8, 9, 10))
    assert list(tmp_path.iterdir()) == [first]


def test_normal_scans_are_other_people_without_infection(folder, tmp_path):
    more = write_scan_dataset(tmp_path / "more", 20, **COARSE, seed=3, minority=0.4, num_normals=6)
    assert cases(more)[:20] == cases(folder)
    normal = cases(more)[20:]
    assert [case["fold"] for case in normal] == [0, 1, 2, 3, 4, 0]
    assert {(case["label"], case["group"], case["ratio"]) for case in normal} == {("normal", "normal", 0.0)}
    assert len({case["patient_id"] for case in normal}) == 6
    lungs = [voxels(more, case, "lung") for case in normal]
    assert all(
        lung.any() and not voxels(more, case, "infection").any() for lung, case in zip(lungs, normal, strict=True)
    )
    assert not np.array_equal(lungs[0], lungs[1])
    with pytest.raises(ValueError, match="4 normal scans are too few for 5 folds"):
        write_scan_dataset(tmp_path / "few", 20, num_normals=4)
