"""Lungs and infection by the weights that come with the bundles."""

import hashlib
import json
import runpy

import numpy as np
import pytest
from custom_components.diagnosis.bundle_network import BundleNetwork
from custom_components.diagnosis.lung_sources import find_lungs
from custom_components.diagnosis.pipeline import SEGMENT_WEIGHTS, SEGMENTER, Diagnosis
from custom_components.diagnosis.queue import run_queue, scan_sources
from custom_components.diagnosis.scan_run import diagnose_scan
from custom_components.phantom import make_scan

from tests.bundles.conftest import ROOT
from tests.diagnosis.conftest import image_of
from tests.real_data import real_data

BUNDLE = ROOT / "covid_cap_bundle"
WEIGHTS = BUNDLE / SEGMENT_WEIGHTS
LARGEST_BYTES = 25 * 10**6


@pytest.fixture(scope="module")
def vbnet() -> BundleNetwork:
    return BundleNetwork.load(BUNDLE, WEIGHTS, SEGMENTER, prefix="segment_")


def test_the_metadata_contain_the_training_data_of_the_file(vbnet):
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert list(metadata["trained_on"]) == [digest]
    assert metadata["trained_on"][digest] == vbnet.model.trained_on
    for name in ("CC BY-NC-SA 4.0", "CC BY-NC 3.0", "LCTSC"):
        assert name in metadata["trained_on"][digest]
        assert name in (BUNDLE / "docs" / "data_license.txt").read_text(encoding="utf-8")
    assert WEIGHTS.stat().st_size < LARGEST_BYTES


@pytest.mark.parametrize("seed", [99, 101])
def test_lung_volumes_of_unseen_phantoms_are_within_5_percent(seed, vbnet):
    phantom = make_scan("covid", 0.15, seed, (160, 150, 100), (2.4, 2.5, 3.1))
    masks = find_lungs(image_of(phantom), vbnet.steps)
    found, planted = masks.lungs, phantom.lung > 0
    assert np.count_nonzero(found) == pytest.approx(planted.sum(), rel=0.05)
    assert set(np.unique(found)) == {0, 1, 2}
    inside = masks.vbnet_infection > 0
    assert (inside & (phantom.infection > 0)).sum() > 0.8 * inside.sum()  # what it calls infection is infection


@pytest.mark.real_data
@pytest.mark.slow
def test_lungs_of_real_series_are_plausible_and_infection_lies_on_the_marked_slices(tmp_path):
    folder = real_data("covid_ct_md")
    diagnosis = Diagnosis()
    result = run_queue(
        scan_sources(folder), tmp_path, lambda source, target: diagnose_scan(source, target, diagnosis, dicom=False)
    )
    assert (len(result.done), result.failed) == (2, {})
    script = runpy.run_path(str(ROOT / "docs" / "score_slice_labels.py"))
    for patient in ("P001", "cap001"):
        found = script["score"](folder / patient, folder / f"{patient}_slices.csv", tmp_path, "infection")
        assert 3000 < sum(found.lungs_ml) < 7000
        assert 0.7 < found.lungs_ml[0] / found.lungs_ml[1] < 1.4
        assert found.auc > 0.9
