from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from custom_components import phantom
from custom_components.dicom.chest_series import Series
from custom_components.labels import LEFT, RIGHT
from custom_components.reports.scan.findings import Model, ScanFindings, Scores
from scipy.ndimage import gaussian_filter

NAMED_FOLDER = Path("/scans/DOE^JANE_1949-02-03")
UID = "1.2.826.0.1.3680043.8.498.12345678901234567890123456789012345"
WORDS = "why and how " * 30


def phantom_findings(shape, spacing_mm):
    """Everything known: x is odd against y and z, and the lungs are parted in the middle."""
    scan = phantom.make_scan("covid", 0.05, seed=3, shape=shape, spacing_mm=spacing_mm)
    to_left = np.arange(shape[0])[:, None, None] >= shape[0] // 2
    infection = (scan.infection * scan.lung).astype(np.uint8)
    heat = [gaussian_filter(infection.astype(np.float32), [width / step for step in spacing_mm]) for width in (9, 15)]
    return ScanFindings(
        case_id=UID,
        image_hu=scan.image_hu,
        affine=scan.affine,
        lungs=(scan.lung * np.where(to_left, LEFT, RIGHT)).astype(np.uint8),
        lung_source="VB-Net",
        infection=infection,
        infection_source="VB-Net",
        lesions=scan.label,
        lesion_slices=tuple(np.flatnonzero(infection.any(axis=(0, 1))).tolist()),
        attention_us=heat[0] / heat[0].max(),
        attention_ss=heat[1] / heat[1].max(),
        scores=Scores(0.8125, 0.65625, 0.35 * 0.8125 + 0.65 * 0.65625, 0.35),
        series=Series(
            UID,
            f"{UID[:-1]}9",
            f"THORAX lung, {shape[2]} slices",
            "thinnest of 2 axial series",
            tuple(NAMED_FOLDER / f"{index}.dcm" for index in range(shape[2])),
            {"Topogram, 1 image": "localizer", "THORAX 5 mm": "thicker slices"},
        ),
        models=tuple(Model(f"network {index}", "0.3.0", "model.pt", "a3" * 32, "phantoms") for index in range(3)),
        seconds={"read": 1.25, "lungs and infection": 8.125},
    )


def without_classifier(findings):
    return replace(findings, scores=None, attention_us=None, attention_ss=None)


def without_infection(findings):
    return replace(findings, infection=None, infection_source=None, lesions=None, lesion_slices=())


def wordy(findings):
    """Texts far longer than anyone writes, in every place at once."""
    assert findings.series is not None
    series = replace(
        findings.series,
        description="Very long & <b>bold</b> " + "THORAX_ROUTINE_" * 30,
        reason=WORDS,
        left_out={f"series {index} {'x' * 90}": WORDS for index in range(60)},
    )
    return replace(
        findings,
        case_id="case" * 40,
        patient_id="PID" * 40,
        series=series,
        lung_source=f"threshold and morphology (no model) {WORDS}",
        infection_source=WORDS,
        models=tuple(replace(model, name=WORDS, weights="w" * 90, trained_on=WORDS) for model in findings.models * 3),
        seconds={f"stage {index} {'x' * 40}": 1.0 for index in range(20)},
        warnings=(WORDS,) * 5,
        not_done=(WORDS,) * 12,
    )


@pytest.fixture(scope="session")
def findings_of():
    """Findings of one phantom in each state that a report has to show, by name."""
    full = phantom_findings((72, 60, 26), (5.4, 5.4, 11.0))
    nothing = np.zeros_like(full.lungs)
    left = full.lungs == LEFT
    alone = {"lungs": full.lungs * left, "infection": full.infection * left}
    no_ratio = replace(without_infection(full), scores=Scores(0.8125, 0.65625, None, None))
    return {
        "full": full,
        "no classifier": replace(without_classifier(full), not_done=("The classifier has no weights.",)),
        "no ratio": replace(no_ratio, not_done=("Infection was not segmented.",)),
        "lungs only": replace(without_infection(without_classifier(full)), series=None, models=(), seconds={}),
        "no infection": replace(full, infection=nothing, lesions=nothing, lesion_slices=()),
        "one lung": replace(full, **alone),
        "no lungs": replace(without_infection(without_classifier(full)), lungs=nothing),
        "odd grid": phantom_findings((37, 91, 13), (10.5, 3.6, 22.0)),
        "wordy": wordy(full),
    }
