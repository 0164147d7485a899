"""Content of report.json and report.html of one scan, as plain numbers and sentences."""

import math
from dataclasses import asdict
from typing import Any

import nibabel as nib
import numpy as np
from custom_components._version import NOTICE, __version__
from custom_components.dicom.chest_series import Series
from custom_components.infection_size import ratio_band
from custom_components.labels import LESION_CLASSES
from custom_components.metrics.case_numbers import check_weighting
from custom_components.reports.lesions import INFECTION_LABELS, lesion_volumes_ml
from custom_components.reports.scan.displayed import SIDES, DisplayedScan
from custom_components.reports.scan.distribution import describe_distribution
from custom_components.reports.scan.findings import ScanFindings, Scores
from custom_components.reports.scan.left_out import left_out_scores
from custom_components.reports.scan.reading import reading_of
from custom_components.reports.scan.sentences import done_sentences, notes_of, score_meanings, summary_of

# Version of the report format: raised when an entry changes its meaning or is removed.
REPORT_VERSION = 1

_DECIMALS = 4
_VOLUME_DECIMALS = 3
_RATIO_DECIMALS = 6


def describe_scan(findings: ScanFindings, scan: DisplayedScan | None = None) -> dict[str, Any]:
    """Describe a scan in the format of ``docs/report.schema.json``.

    Volumes are in ml, slice indices count from 0 along ``slice_axis`` in the order of the file. Unknown values
    are None. File names are omitted because folders may be named after patients.

    Args:
        findings: findings of the scan.
        scan: the same in display orientation, if already available.

    Returns:
        Content that can be written as JSON.

    Raises:
        ValueError: if the findings are inconsistent.
    """
    scan = DisplayedScan(findings) if scan is None else scan
    report = {
        "report_version": REPORT_VERSION,
        "notice": NOTICE,
        "software": {"name": "custom_components", "version": __version__},
        "case_id": findings.case_id,
        "scan_sha256": findings.scan_sha256,
        "patient_id": findings.patient_id,
        "series": None if findings.series is None else _series(findings.series),
        "geometry": _geometry(findings, scan),
        "lungs": {"source": findings.lung_source, "volume_ml": _volumes_ml(scan, scan.lung_voxels)},
        "infection": _infection(findings, scan),
        "distribution": describe_distribution(scan),
        "lesions": _lesions(findings, scan),
        "agreement": _agreement(findings, scan),
        "consistency": _consistency(findings, scan),
        "scores": None if findings.scores is None else _scores(findings.case_id, findings.scores),
        "models": [asdict(model) for model in findings.models],
        "seconds": {stage: round(seconds, _VOLUME_DECIMALS) for stage, seconds in findings.seconds.items()},
    }
    report["left_out"] = left_out_scores(report)
    report |= {"summary": summary_of(report), "reading": reading_of(report), "done": done_sentences(report)}
    messages = {"warnings": list(findings.warnings), "not_done": list(findings.not_done), "notes": notes_of(report)}
    return report | messages


def _series(series: Series) -> dict[str, Any]:
    return {
        "uid": series.uid,
        "study_uid": series.study_uid,
        "description": series.description,
        "reason": series.reason,
        "files": len(series.files),
        "left_out": [{"description": name, "reason": reason} for name, reason in series.left_out.items()],
    }


def _geometry(findings: ScanFindings, scan: DisplayedScan) -> dict[str, Any]:
    spacing_mm = np.linalg.norm(findings.affine[:3, :3], axis=0)
    return {
        "shape": list(findings.image_hu.shape),
        "spacing_mm": spacing_mm.round(_RATIO_DECIMALS).tolist(),
        "axes": "".join(nib.aff2axcodes(findings.affine)),
        "slice_axis": scan.slice_axis,
        "slices": len(scan.slice_indices),
    }


def _volumes_ml(scan: DisplayedScan, voxels: np.ndarray) -> dict[str, float]:
    return {side: _ml(scan, count) for side, count in _by_side(voxels).items()}


def _by_side(voxels: np.ndarray) -> dict[str, int]:
    """Sums of counts (2, Z) for the left lung, the right lung and both."""
    return {**dict(zip(SIDES, voxels.sum(axis=1).tolist(), strict=True)), "total": int(voxels.sum())}


def _ml(scan: DisplayedScan, voxels: int) -> float:
    return round(voxels * scan.voxel_ml, _VOLUME_DECIMALS)


def _infection(findings: ScanFindings, scan: DisplayedScan) -> dict[str, Any] | None:
    infected = scan.infected_voxels
    if infected is None or findings.infection is None:
        return None
    parts, wholes = _by_side(infected), _by_side(scan.lung_voxels)
    ratio = parts["total"] / wholes["total"] if wholes["total"] else math.nan
    return {
        "source": findings.infection_source,
        "volume_ml": _volumes_ml(scan, infected),
        "percent_of_lung": {side: _percent(part, wholes[side]) for side, part in parts.items()},
        "ratio": None if math.isnan(ratio) else round(ratio, _RATIO_DECIMALS),
        "ratio_band": ratio_band(ratio) or None,
        "slices": _indices(scan, np.any(infected, axis=0)),
        "outside_lungs_ml": _ml(scan, int(np.count_nonzero(findings.infection)) - parts["total"]),
    }


def _lesions(findings: ScanFindings, scan: DisplayedScan) -> dict[str, Any] | None:
    if findings.lesions is None or scan.lesions is None:
        return None
    volumes_ml = lesion_volumes_ml(findings.lesions, findings.affine)
    lung = int(scan.lung_voxels.sum())
    in_lungs, everywhere = (
        np.bincount(voxels, minlength=len(LESION_CLASSES) + 1)
        for voxels in (findings.lesions[findings.lungs != 0], findings.lesions.ravel())
    )
    return {
        "volume_ml": {name: round(volume, _VOLUME_DECIMALS) for name, volume in volumes_ml.items()},
        "percent_of_lung": {LESION_CLASSES[k - 1]: _percent(int(in_lungs[k]), lung) for k in INFECTION_LABELS},
        "outside_lungs_ml": _ml(scan, sum(int(everywhere[k] - in_lungs[k]) for k in INFECTION_LABELS)),
        "slices_searched": sorted(findings.lesion_slices),
        "slices": _indices(scan, np.any(scan.lesions, axis=(0, 1))),
    }


def _agreement(findings: ScanFindings, scan: DisplayedScan) -> dict[str, Any] | None:
    """Infection inside the lungs by VB-Net and by the lesion network, and its Dice."""
    if findings.vbnet_infection is None or findings.lesions is None:
        return None
    inside = findings.lungs != 0
    one, other = (findings.vbnet_infection != 0) & inside, np.isin(findings.lesions, INFECTION_LABELS) & inside
    voxels = [int(np.count_nonzero(mask)) for mask in (one, other, one & other)]
    names = ("vbnet_ml", "lesion_network_ml", "both_ml")
    dice = 2 * voxels[2] / (voxels[0] + voxels[1]) if any(voxels) else None
    volumes = {name: _ml(scan, count) for name, count in zip(names, voxels, strict=True)}
    return {**volumes, "dice": None if dice is None else round(dice, _DECIMALS)}


def _consistency(findings: ScanFindings, scan: DisplayedScan) -> dict[str, Any] | None:
    """Whether the lesion network repeats its infection in mirror images, and continues it in neighbouring slices."""
    if scan.lesions is None:
        return None
    infected = np.isin(scan.lesions, INFECTION_LABELS) & (scan.lungs != 0)
    continued = np.zeros_like(infected)
    continued[..., 1:] |= infected[..., :-1]
    continued[..., :-1] |= infected[..., 1:]
    dice = findings.mirror_dice
    return {
        "mirror_slices": findings.mirror_slices,
        "mirror_dice": None if dice is None else round(dice, _DECIMALS),
        "isolated_percent": _percent(int((infected & ~continued).sum()), int(infected.sum())),
    }


def _indices(scan: DisplayedScan, is_affected: np.ndarray) -> list[int]:
    """Slice indices in file order."""
    return sorted(scan.slice_indices[z] for z in np.flatnonzero(is_affected).tolist())


def _percent(part: int, whole: int) -> float | None:
    return round(100.0 * part / whole, _DECIMALS) if whole else None


def _scores(case_id: str, scores: Scores) -> dict[str, Any]:
    shown = {"p_us": scores.p_us, "p_ss": scores.p_ss, "p_final": scores.p_final, "weight_us": scores.weight_us}
    if not 0 <= scores.threshold <= 1:
        raise ValueError(f"Case {case_id}: threshold is {scores.threshold:g}. Expected a probability, 0 to 1.")
    for name, value in shown.items():
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"Case {case_id}: {name} is {value:g}. Expected 0 to 1: apply the sigmoid to the logit.")
    if (scores.p_final is None) != (scores.weight_us is None):
        raise ValueError(
            f"Case {case_id}: p_final is {scores.p_final}, weight_us {scores.weight_us}. Expected both, or neither "
            "if the infection ratio is unknown."
        )
    if scores.p_final is not None and scores.weight_us is not None:
        check_weighting(case_id, scores.weight_us, scores.p_us, scores.p_ss, scores.p_final)
    return {
        **{name: None if value is None else round(value, _DECIMALS) for name, value in shown.items()},
        "threshold": scores.threshold,
        "above_threshold": None if scores.p_final is None else bool(scores.p_final >= scores.threshold),
        "meaning": score_meanings(scores),
    }
