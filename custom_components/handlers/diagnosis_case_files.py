from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from custom_components.files.atomic import writable_folder
from custom_components.handlers.case_files import NATIVE, CaseFiles
from custom_components.infection_size import ratio_band
from custom_components.metrics.case_numbers import check_weighting, covid_probability, known_ratio
from custom_components.networks.dual_sampling import PAPER_THRESHOLDS, PAPER_WEIGHTS, weight_of_ratio
from custom_components.pictures.figures import draw_attention
from custom_components.pictures.sheet import short_name
from custom_components.reports.display import Display
from custom_components.transforms.lungs.fallback_lung_mask import FILE_SOURCE, SOURCE_KEY
from PIL import Image

LUNG, INFECTION = "native_lung", "native_infection"

_MAPS = {"attention_us": "attention US", "attention_ss": "attention SS", "attention_plain": "Grad-CAM, plain network"}
_IN_TITLE = {"p_us": "P_US", "p_ss": "P_SS", "p_final": "P_final", "p_plain": "P_plain", "ratio": "infection ratio"}
_VOLUME_DECIMALS = 3
_DECIMALS = 6


class DiagnosisCaseFiles(CaseFiles):
    """Ignite handler that writes the diagnosis of each case of an inference: COVID-19 or CAP.

    Writes ``<output_dir>/<case>/<case>_attention.png``, the attention of both branches over the CT, and
    ``<case>_diagnosis.json``: probabilities of COVID-19, the ratio, the weight of the uniform branch in Eq. 5, and the
    volumes of lung and infection. The JSON is written last: if it exists, the report is complete. Unknown numbers are
    null, and ``notes`` give the reason.

    Reads from each case ``native``, the CT in HU as loaded, with its metadata; ``ratio`` (NaN if unknown); ``logit``
    (not used without ratio), ``logit_us``, ``logit_ss``; ``attention_us``, ``attention_ss`` (1, X, Y, Z) in [0, 1] on
    the grid of ``native``; and, if present, ``native_lung``, ``native_infection`` on that grid, ``lung_source``, and
    ``logit_plain``, ``attention_plain`` of the network without attention loss.

    Args:
        output_dir: folder for the folders of the cases.
        decimals: decimals of the probabilities.
        weights: weights of the uniform branch outside and inside the thresholds, as in the network.
        ratio_thresholds: thresholds of the ratio, as in the network.
        notes: sentences on the whole run, for the JSON of each case.
    """

    def __init__(
        self,
        output_dir: str | Path,
        decimals: int = 4,
        weights: tuple[float, float] = PAPER_WEIGHTS,
        ratio_thresholds: tuple[float, float] = PAPER_THRESHOLDS,
        notes: Sequence[str] = (),
    ) -> None:
        if decimals < 1:
            raise ValueError(f"Expected decimals >= 1, got {decimals}. A probability has at least one.")
        super().__init__(output_dir, notes)
        self.decimals, self.weights, self.ratio_thresholds = decimals, weights, ratio_thresholds

    def write_case(self, item: Mapping[str, Any], name: str, folder: Path) -> None:
        """Write picture and JSON of one case."""
        volumes, display = self._volumes(item, name), Display(item[NATIVE].affine)
        ratio = known_ratio(item, name)
        numbers = {
            **self._probabilities(item, ratio, name),
            "ratio": None if ratio is None else round(ratio, _DECIMALS),
            "ratio_band": None if ratio is None else ratio_band(ratio),
            "lung_volume_ml": _volume_ml(volumes.get(LUNG), display),
            "infection_volume_ml": _volume_ml(volumes.get(INFECTION), display),
        }
        figure = writable_folder(folder) / f"{name}_attention.png"
        self.write_picture(figure, name, _picture(name, volumes, display, numbers))
        spacing_mm = np.round(display.file_spacing_mm, _DECIMALS).tolist()
        geometry = {"shape": list(volumes[NATIVE].shape), "spacing_mm": spacing_mm, "slice_axis": display.slice_axis}
        report = {
            **numbers,
            SOURCE_KEY: item.get(SOURCE_KEY),
            "geometry": geometry,
            "files": {"attention": figure.name},
            "notes": _notes(item, ratio),
        }
        self.write_last(folder / f"{name}_diagnosis.json", name, item, report)

    def _volumes(self, item: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
        there = ["attention_plain"] if item.get("attention_plain") is not None else []
        volumes = {key: self.volume(item, key) for key in (NATIVE, "attention_us", "attention_ss", *there)}
        masks = {key: self.mask_if_there(item, key) for key in (LUNG, INFECTION)}
        volumes |= {key: mask for key, mask in masks.items() if mask is not None}
        if len({volume.shape for volume in volumes.values()}) > 1:
            found = ", ".join(f"{key} {volume.shape}" for key, volume in volumes.items())
            raise ValueError(
                f"Case {name}: expected all arrays on the grid of the CT file, got {found}. "
                "Transform the attention back to it (Invertd), and do not change the loaded masks."
            )
        return volumes

    def _probabilities(self, item: Mapping[str, Any], ratio: float | None, name: str) -> dict[str, float | None]:
        p_us, p_ss = (covid_probability(item, key, name) for key in ("logit_us", "logit_ss"))
        known: dict[str, float | None] = {"p_us": p_us, "p_ss": p_ss, "p_final": None}
        weight = None
        if ratio is not None:
            weight = round(weight_of_ratio(ratio, self.weights, self.ratio_thresholds), _DECIMALS)
            known["p_final"] = p_final = covid_probability(item, "logit", name)
            check_weighting(name, weight, p_us, p_ss, p_final)
        if item.get("logit_plain") is not None:
            known["p_plain"] = covid_probability(item, "logit_plain", name)
        rounded = {key: None if value is None else round(value, self.decimals) for key, value in known.items()}
        return {**rounded, "weight_us": weight}


def _volume_ml(mask: np.ndarray | None, display: Display) -> float | None:
    return None if mask is None else round(int(np.count_nonzero(mask)) * display.voxel_ml, _VOLUME_DECIMALS)


def _picture(name: str, volumes: Mapping[str, np.ndarray], display: Display, numbers: Mapping[str, Any]) -> Image.Image:
    shown = {text: numbers[key] for key, text in _IN_TITLE.items() if key in numbers}
    scores = ", ".join(f"{text} {'unknown' if value is None else f'{value:.3g}'}" for text, value in shown.items())
    turned = {key: display.turned(volume) for key, volume in volumes.items()}
    maps = {text: turned[key] for key, text in _MAPS.items() if key in turned}
    masks, title = (turned.get(LUNG), turned.get(INFECTION)), f"{short_name(name)}: {scores}"
    try:
        return draw_attention(turned[NATIVE], maps, display.spacing_mm, title, *masks)
    except ValueError as error:
        raise ValueError(f"Case {name}: {error}") from error


def _notes(item: Mapping[str, Any], ratio: float | None) -> list[str]:
    notes = []
    if ratio is None:
        reason = "without an infection mask" if item.get(INFECTION) is None else "although there is an infection mask"
        notes.append(
            f"The infection ratio is unknown {reason}: P_final is not given, since Eq. 5 weights the two branches by "
            "the ratio. Give an infection mask, the ratio in the datalist, or --segment_ckpt_path models/vbnet.pt, "
            "which segments infection and lungs."
        )
    source = item.get(SOURCE_KEY)
    if source not in (None, FILE_SOURCE):
        notes.append(
            f"The scan has no lung mask; one was made by {source}. Diseased lung may be missing in it: check its "
            "contour in the picture, or give a lung mask."
        )
    return notes
