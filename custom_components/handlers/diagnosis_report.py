from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from custom_components._version import NOTICE, __version__
from custom_components.files.atomic import writable_folder
from custom_components.files.report_files import write_png
from custom_components.handlers.case_report import NATIVE, CaseReport
from custom_components.infection_size import ratio_band
from custom_components.metrics.case_numbers import covid_probability, known_ratio
from custom_components.networks.dual_sampling import branch_weight
from custom_components.pictures.attention import draw_attention
from custom_components.pictures.overlay import short_name
from custom_components.reports.lesions import turn_to_display, voxel_volume_ml
from custom_components.transforms.lungs.fallback_lung_mask import FILE_SOURCE, SOURCE_KEY
from PIL import Image

LUNG, INFECTION = "native_lung", "native_infection"

_MAPS = {"attention_us": "attention US", "attention_ss": "attention SS", "attention_plain": "Grad-CAM, plain network"}
_VOLUME_DECIMALS = 3
_DECIMALS = 6
_TOLERANCE = 0.01  # of a probability: half precision has the logits to about this


class DiagnosisReport(CaseReport):
    """Ignite handler that reports each case of a diagnosis: COVID-19 or CAP.

    Writes ``<output_dir>/<case>/<case>_attention.png``, the attention of both branches over the CT, and
    ``<case>_diagnosis.json``: probabilities of COVID-19, the ratio and the weight it gives to the uniform branch in
    Eq. 5, volumes of lung and infection. The JSON is written last: where it is, the report is complete. A number that
    cannot be known is null, and ``notes`` say why.

    Of each case it takes ``native``, the CT in HU as loaded, with its metadata; ``ratio`` (NaN when unknown);
    ``logit`` (not used without ratio), ``logit_us``, ``logit_ss``; ``attention_us``, ``attention_ss`` (1, X, Y, Z) in
    [0, 1], back on the grid of ``native``; and, when they are there, ``native_lung``, ``native_infection`` on that
    grid, ``lung_source``, and ``logit_plain``, ``attention_plain`` of the network without attention loss.

    Args:
        output_dir: folder that gets a folder for each case.
        decimals: of the probabilities.
        weights: of the uniform branch outside and inside the thresholds, as the network has them.
        ratio_thresholds: of the ratio, as the network has them.
    """

    def __init__(
        self,
        output_dir: str | Path,
        decimals: int = 4,
        weights: tuple[float, float] = (0.35, 0.96),
        ratio_thresholds: tuple[float, float] = (0.001, 0.030),
    ) -> None:
        if decimals < 1:
            raise ValueError(f"Expected decimals >= 1, got {decimals}. A probability has at least one.")
        super().__init__(output_dir)
        self.decimals = decimals
        self.weights = weights
        self.ratio_thresholds = ratio_thresholds

    def write_case(self, item: Mapping[str, Any], name: str, folder: Path) -> None:
        """Write picture and report of one case.

        Args:
            item: the case's input and output.
            name: its name.
            folder: its folder.

        Raises:
            ValueError: when something is missing, not on the grid of the CT, or the probabilities contradict Eq. 5.
        """
        volumes = self._volumes(item, name)
        affine = np.asarray(item[NATIVE].affine, dtype=np.float64)
        numbers = {**self._probabilities(item, name), **_ratio(item, name), **_volumes_ml(volumes, affine)}
        picture = _picture(name, volumes, affine, f"{short_name(name)}: {_title(numbers)}")
        figure = writable_folder(folder) / f"{name}_attention.png"
        with self.or_noted(figure, name):
            write_png(figure, picture)
        report = {
            "case_id": name,
            "notice": NOTICE,
            "software": {"name": "custom_components", "version": __version__},
            **numbers,
            SOURCE_KEY: item.get(SOURCE_KEY),
            "geometry": _geometry(volumes[NATIVE].shape, affine),
            "files": {"attention": figure.name},
            "notes": self.reading_notes(item) + _notes(item, numbers),
        }
        self.write_last(folder / f"{name}_diagnosis.json", name, report)

    def _volumes(self, item: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
        there = ["attention_plain"] if item.get("attention_plain") is not None else []
        volumes = {key: self.volume(item, key) for key in (NATIVE, "attention_us", "attention_ss", *there)}
        masks = {key: self.mask_if_there(item, key) for key in (LUNG, INFECTION)}
        volumes |= {key: mask for key, mask in masks.items() if mask is not None}
        if len({volume.shape for volume in volumes.values()}) > 1:
            found = ", ".join(f"{key} {volume.shape}" for key, volume in volumes.items())
            raise ValueError(
                f"Case {name}: expected all arrays on the grid of the CT file, got {found}. "
                "Bring the attention back to it (Invertd), and leave the masks as they are loaded."
            )
        return volumes

    def _probabilities(self, item: Mapping[str, Any], name: str) -> dict[str, float | None]:
        p_us, p_ss = (covid_probability(item, key, name) for key in ("logit_us", "logit_ss"))
        known: dict[str, float | None] = {"p_us": p_us, "p_ss": p_ss, "p_final": None}
        weight = self._weight(known_ratio(item, name))
        if weight is not None:
            known["p_final"] = p_final = covid_probability(item, "logit", name)
            _check_weighting(name, weight * p_us + (1 - weight) * p_ss, p_final)
        if item.get("logit_plain") is not None:
            known["p_plain"] = covid_probability(item, "logit_plain", name)
        rounded = {key: None if value is None else round(value, self.decimals) for key, value in known.items()}
        return {**rounded, "weight_us": weight}

    def _weight(self, ratio: float | None) -> float | None:
        """In float32, as the network compares the ratio."""
        if ratio is None:
            return None
        weight = branch_weight(torch.tensor(ratio, dtype=torch.float32), self.weights, self.ratio_thresholds)
        return round(weight.item(), _DECIMALS)


def _check_weighting(name: str, expected: float, p_final: float) -> None:
    if abs(expected - p_final) > _TOLERANCE:
        raise ValueError(
            f"Case {name}: P_final is {p_final:.3f}, but Eq. 5 gives {expected:.3f} from the probabilities of the "
            "branches. Give DiagnosisReport the weights and ratio_thresholds of the network, and both the same ratio."
        )


def _ratio(item: Mapping[str, Any], name: str) -> dict[str, float | str | None]:
    ratio = known_ratio(item, name)
    if ratio is None:
        return {"ratio": None, "ratio_band": None}
    return {"ratio": round(ratio, _DECIMALS), "ratio_band": ratio_band(ratio)}


def _volumes_ml(volumes: Mapping[str, np.ndarray], affine: np.ndarray) -> dict[str, float | None]:
    voxel_ml = voxel_volume_ml(affine)
    columns = {"lung_volume_ml": volumes.get(LUNG), "infection_volume_ml": volumes.get(INFECTION)}
    return {
        column: None if mask is None else round(int(np.count_nonzero(mask)) * voxel_ml, _VOLUME_DECIMALS)
        for column, mask in columns.items()
    }


def _picture(name: str, volumes: Mapping[str, np.ndarray], affine: np.ndarray, title: str) -> Image.Image:
    turn = turn_to_display(affine)
    turned = {key: nib.apply_orientation(volume, turn) for key, volume in volumes.items()}
    maps = {text: turned[key] for key, text in _MAPS.items() if key in turned}
    spacing_mm = np.array(_spacing_mm(affine))[np.argsort(turn[:, 0])].tolist()
    try:
        return draw_attention(turned[NATIVE], maps, spacing_mm, title, turned.get(LUNG), turned.get(INFECTION))
    except ValueError as error:
        raise ValueError(f"Case {name}: {error}") from error


def _geometry(shape: tuple[int, ...], affine: np.ndarray) -> dict[str, Any]:
    slice_axis = int(np.flatnonzero(turn_to_display(affine)[:, 0] == 2)[0])
    return {"shape": list(shape), "spacing_mm": _spacing_mm(affine), "slice_axis": slice_axis}


def _spacing_mm(affine: np.ndarray) -> list[float]:
    """Voxel size along the axes of the file."""
    return np.linalg.norm(affine[:3, :3], axis=0).round(_DECIMALS).tolist()


def _title(numbers: Mapping[str, Any]) -> str:
    names = {"p_us": "P_US", "p_ss": "P_SS", "p_final": "P_final", "p_plain": "P_plain", "ratio": "infection ratio"}
    shown = {text: numbers[key] for key, text in names.items() if key in numbers}
    return ", ".join(f"{text} {'unknown' if value is None else f'{value:.3g}'}" for text, value in shown.items())


def _notes(item: Mapping[str, Any], numbers: Mapping[str, Any]) -> list[str]:
    notes = []
    if numbers["ratio"] is None:
        reason = "without an infection mask" if item.get(INFECTION) is None else "although there is an infection mask"
        notes.append(
            f"The infection ratio is unknown {reason}: P_final is not given, since Eq. 5 weights the two branches by "
            "the ratio. Give an infection mask, the ratio in the data list, or --segment_ckpt_path models/vbnet.pt, "
            "which finds infection and lungs."
        )
    source = item.get(SOURCE_KEY)
    if source not in (None, FILE_SOURCE):
        notes.append(
            f"The scan came without lung mask; one was made by {source}. It may leave out diseased lung: check its "
            "contour in the picture, or give a lung mask."
        )
    return notes
