"""Where inputs are met: what a training, an evaluation, an inference and a verb do with them first."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from custom_components.datalists.check_lesions import check_lesions
from custom_components.datalists.folds import select_fold
from custom_components.datalists.scans import list_scans
from custom_components.datalists.slices import list_cases
from custom_components.datasets.cc_ccii import convert_cc_ccii
from custom_components.datasets.covid19_20 import convert_covid19_20
from custom_components.datasets.covid20_slices import convert_covid20_slices
from custom_components.datasets.covid20_volumes import convert_covid20_volumes
from custom_components.datasets.covid_ct_md import convert_covid_ct_md
from custom_components.datasets.ct_excerpts import convert_ct_excerpts
from custom_components.datasets.datalist import build_datalist, check_datalist
from custom_components.datasets.lctsc import convert_lctsc
from custom_components.datasets.medseg import convert_jpg, convert_medseg
from custom_components.datasets.medseg_volumes import convert_medseg_volumes
from custom_components.datasets.mosmed import convert_mosmed
from custom_components.datasets.plethora import convert_plethora
from custom_components.datasets.spgc_covid import convert_spgc_covid
from custom_components.datasets.stoic2021 import convert_stoic2021
from custom_components.diagnosis.command import diagnose
from custom_components.engines.root_cause import root_cause
from custom_components.masks.command import segment_masks

from tests.bundles.cap.conftest import BUNDLE as CAP_BUNDLE
from tests.bundles.seg.conftest import BUNDLE as SEG_BUNDLE

# The case that is bad, of the names that the data sets of these tests have.
BAD = "bad"
CAP, SEG = "covid_cap_bundle", "covid_seg_bundle"
BUNDLES = {bundle.folder.name: bundle for bundle in (CAP_BUNDLE, SEG_BUNDLE)}
SMALL_GRID = {
    CAP: {"grid": [11, 14, 16], "spacing_mm": [33.0, 28.0, 24.0], "max_scale": 1.0},
    SEG: {"spatial_size": [20, 18]},
}


@cache
def transform(bundle: str, config: str, key: str) -> Callable[[Any], Any]:
    """The shipped preprocessing, on a grid as small as the scans here."""
    parser = BUNDLES[bundle].parser_of(config)
    for name, value in SMALL_GRID[bundle].items():
        parser[name] = value
    return parser.get_parsed_content(key)


def loaded(bundle: str, config: str, key: str, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The bad case as the network gets it."""
    [case] = [case for case in cases if Path(case["image"]).name.startswith(BAD)]
    return transform(bundle, config, key)(dict(case))


def seg_inference(data: Path) -> dict[str, Any]:
    cases = list_cases(data, require_labels=False, check_files=False)
    return loaded(SEG, "inference.json", "preprocessing", cases)


def cap_inference(data: Path) -> dict[str, Any]:
    cases = list_scans(data, labelled=False, check_files=False)
    return loaded(CAP, "inference.json", "preprocessing", cases)


def seg_training(data: Path) -> dict[str, Any]:
    return loaded(SEG, "train.yaml", "validate#preprocessing", list_cases(data))


def seg_labels(data: Path) -> None:
    check_lesions(training=list_cases(data))


def cap_training(data: Path) -> dict[str, Any]:
    return loaded(CAP, "train.yaml", "train#preprocessing", list_scans(data))


def cap_split(data: Path) -> dict[str, Any]:
    return select_fold(list_scans(data), fold=1)


def diagnosed(scan: Path) -> Path:
    """The folder of the results, made without any weights: the CT is read and lungs are found by threshold."""
    root = scan.parent.parent
    for name, bundle in BUNDLES.items():
        shutil.copytree(bundle.folder / "configs", root / "bundles" / name / "configs")
    diagnose(str(scan), str(root / "results"), bundles_dir=str(root / "bundles"))
    return root / "results"


def converted_jpg(folder: Path) -> Path:
    return convert_jpg(folder / "jpg", folder / "new", table=folder / "intensities.csv")


def converted_stack(folder: Path) -> Path:
    return convert_medseg(folder / "tr_im.nii.gz", folder / "tr_mask.nii.gz", folder / "new")


def converted_runs(folder: Path) -> Path:
    return convert_covid20_slices(folder / "runs", folder / "new", table=folder / "table.csv", num_folds=1)


def converted_set(convert: Callable[[Path, Path], Path]) -> Callable[[Path], Path]:
    return lambda folder: convert(folder / "published", folder / "new")


def masked(scan: Path) -> Path:
    """The folder of the masks, by the VB-Net that is shipped."""
    segment_masks(str(scan), str(scan.parent.parent / "masks"), infection_by="vbnet")
    return scan.parent.parent / "masks"


# By the words of the page.
PLACES: dict[str, Callable[[Path], Any]] = {
    "seg: training, evaluation": seg_training,
    "seg: start of a training, evaluation": seg_labels,
    "seg: inference": seg_inference,
    "cap: training, evaluation": cap_training,
    "cap: fold": cap_split,
    "cap: inference": cap_inference,
    "build_datalist": build_datalist,
    "check_datalist": check_datalist,
    "convert_cc_ccii": converted_set(convert_cc_ccii),
    "convert_covid19_20": converted_set(convert_covid19_20),
    "convert_covid20_slices": converted_runs,
    "convert_covid20_volumes": converted_set(convert_covid20_volumes),
    "convert_covid_ct_md": converted_set(convert_covid_ct_md),
    "convert_ct_excerpts": converted_set(convert_ct_excerpts),
    "convert_jpg": converted_jpg,
    "convert_lctsc": converted_set(convert_lctsc),
    "convert_medseg": converted_stack,
    "convert_medseg_volumes": converted_set(convert_medseg_volumes),
    "convert_mosmed": converted_set(convert_mosmed),
    "convert_plethora": converted_set(convert_plethora),
    "convert_spgc_covid": converted_set(convert_spgc_covid),
    "convert_stoic2021": converted_set(convert_stoic2021),
    "diagnose": diagnosed,
    "segment_masks": masked,
}


def output_at(place: str, given: Path) -> Any:
    """What a place makes of an input."""
    return PLACES[place](given)


def message_at(place: str, given: Path, caplog: Any) -> list[str]:
    """What a user is told: the reason of a failure, or else the warnings."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        try:
            output_at(place, given)
        except (ValueError, RuntimeError) as error:
            return [root_cause(error)]
        except SystemExit:
            return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    return [record.getMessage() for record in caplog.records]
