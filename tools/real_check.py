"""Measure both networks on public chest CT, and print one table.

    python -m tools.real_check [--segment_weights F] [--seg_weights F] [--data ../shared/data] [--only lung_ct,vbnet]
        [--output table.md] [--cache FOLDER] [--medseg_weights F0,F1,F2,F3,F4] [--runs_table CSV]

The data folder contains any of lung_ct, effusion_ct, covid20_slices (`.npz`), covid_ct_md (DICOM and `*_slices.csv`)
and medseg100 (docs/real_check.md); missing ones are skipped and listed. Results are stored in FOLDER by the hash of the
weights, so a stopped run resumes, and only new weights are measured.
"""

import csv
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from custom_components.command_line.endings import ended_with_a_message
from custom_components.datalists.slices import list_cases
from custom_components.datalists.split import split_cases
from custom_components.datasets.covid20_slices import convert_covid20_slices
from custom_components.datasets.ct_excerpts import HU_OF_ZERO, HU_STEP, USUAL_MM
from custom_components.diagnosis.bundle_network import BundleNetwork, load_network
from custom_components.diagnosis.lesions import find_lesions
from custom_components.diagnosis.lung_sources import find_lungs
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.files.atomic import absolute_path, atomic_path, writable_folder
from custom_components.files.digest import file_digest
from custom_components.images.ct_reader import LabelReader
from custom_components.images.slice_axis import slice_axis_of
from custom_components.labels import IGNORE_LABEL, LUNG_WINDOW_HU
from custom_components.reports.score_tables import markdown_table
from custom_components.transforms.lungs.body_mask import body_mask
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.utils import ImageMetaKey
from nibabel.affines import voxel_sizes
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from tools.mixed_training import HELD_OUT as NEVER_TRAINED

ROOT = Path(__file__).resolve().parents[1]
CAP, SEG = ROOT / "covid_cap_bundle", ROOT / "covid_seg_bundle"
# Never used for training: they measure performance on unseen patients.
HELD_OUT = (*NEVER_TRAINED, "P001", "cap001")
PARTS = ("vbnet", "threshold", "lungs", "medseg", "lesions")
SETS = ("lung_ct", "covid_ct_md", "covid20_slices", "effusion_ct")
VBNET, THRESHOLD, LESIONS, BOTH, EITHER = "VB-Net", "threshold", "lesion network", "both agree", "either"
INSIDE = "VB-Net in threshold lungs"
COLUMNS = (VBNET, THRESHOLD, INSIDE, LESIONS, BOTH, EITHER)
# Predicted lung farther than this from the true lungs is trachea, bowel or stomach, not a difference at the border.
FAR_MM = 6.0
GROUND_GLASS, CONSOLIDATION, EFFUSION = 1, 2, 3

Numbers = dict[str, dict[str, float | None]]  # measure -> column -> number
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scan:
    """A CT with its annotations.

    Args:
        name: name of the case.
        image: HU, (1, X, Y, Z).
        truth: masks by name (lung, infection, effusion), bool (X, Y, Z).
        marked: whether radiologists marked each slice, counted from the head; empty without such labels.
    """

    name: str
    image: MetaTensor
    truth: Mapping[str, np.ndarray]
    marked: np.ndarray

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.spacing_mm)) / 1000

    @property
    def spacing_mm(self) -> np.ndarray:
        """Voxel size along the axes of the array."""
        return voxel_sizes(self.image.affine.numpy())

    @cached_property
    def body(self) -> np.ndarray:
        """Mask of the body."""
        low, high = LUNG_WINDOW_HU
        return body_mask(((self.image.as_tensor() - low) / (high - low)).clamp(0, 1))[0]


@dataclass(frozen=True)
class Item:
    """One thing to measure: a part of the table on one case."""

    part: str
    data_set: str
    name: str
    load: Callable[[], Any]

    def is_asked_for(self, only: Sequence[str]) -> bool:
        """Whether the words select this item; a kind (part, data set, name) without a word selects all."""
        kinds = (self.part, PARTS), (self.data_set, (*SETS, "medseg100"))
        for own, known in kinds:
            asked = [word for word in only if word in known]
            if asked and own not in asked:
                return False
        names = [word for word in only if word not in (*PARTS, *SETS, "medseg100")]
        return not names or self.name in names


class Networks:
    """Both networks, loaded when first used.

    Args:
        segment_weights: weights of VB-Net.
        seg_weights: weights of the lesion network.
        medseg_weights: for each block of slices, weights trained without it; one or none: the same for all slices.
    """

    def __init__(self, segment_weights: Path, seg_weights: Path, medseg_weights: Sequence[Path] = ()) -> None:
        self.segment_weights, self.seg_weights = segment_weights, seg_weights
        self.medseg_weights = list(medseg_weights) or [seg_weights]

    @cached_property
    def segmenter(self) -> BundleNetwork:
        """VB-Net of the bundle."""
        return BundleNetwork.load(CAP, self.segment_weights, "lungs and infection", prefix="segment_")

    @cached_property
    def lesions(self) -> BundleNetwork:
        """Lesion network of the bundle."""
        return BundleNetwork.load(SEG, self.seg_weights, "lesion classes")

    def files(self, part: str) -> list[Path]:
        """Weights that a part of the table depends on."""
        return {
            "vbnet": [self.segment_weights],
            "threshold": [],
            "lungs": [self.segment_weights],
            "lesions": [self.segment_weights, self.seg_weights],
            "medseg": self.medseg_weights,
        }[part]


def real_check(
    segment_weights: str = str(CAP / "models" / "vbnet.pt"),
    seg_weights: str = str(SEG / "models" / "model.pt"),
    data: str = str(ROOT.parent / "shared" / "data"),
    only: str | Sequence[str] = "",
    output: str = "",
    cache: str = "real_check",
    medseg_weights: str | Sequence[str] = "",
    runs_table: str = "",
) -> None:
    """Measure what is missing in the cache and print the table; see the top of this file.

    Args:
        segment_weights: weights of VB-Net.
        seg_weights: weights of the lesion network.
        data: folder of the public data.
        only: parts (vbnet, threshold, lungs, medseg, lesions), data sets and cases, separated by commas; empty: all.
        output: file to which the table is also written, ``.md`` or ``.json``.
        cache: folder that stores the numbers.
        medseg_weights: weights of the folds in the order of the blocks; empty: ``seg_weights``.
        runs_table: table of the runs for `convert_covid20_slices`; read when they are converted the first time.
    """
    folder = writable_folder(absolute_path(cache))
    networks = Networks(Path(segment_weights), Path(seg_weights), [Path(one) for one in _words(medseg_weights)])
    _convert_runs(Path(data) / "covid20_slices", folder, runs_table)
    items, absent = find_items(Path(data), folder, networks)
    chosen = [item for item in items if item.is_asked_for(_words(only))]
    rows: dict[tuple[str, str], Numbers] = {}
    for number, item in enumerate(chosen, start=1):
        _logger.info("%d of %d: %s of %s/%s", number, len(chosen), item.part, item.data_set, item.name)
        found = kept(folder, item, networks, partial(measure, item, networks))
        _merge(rows.setdefault((item.data_set, item.name), {}), found)
    text = table(rows)
    print("\n".join([text, *(f"Left out: {reason}" for reason in absent)]))  # noqa: T201
    if output:
        content = text if not output.endswith(".json") else json.dumps(_plain(rows), indent=1)
        with atomic_path(Path(output)) as path:
            path.write_text(content + "\n", encoding="utf-8")


def find_items(data: Path, folder: Path, networks: Networks) -> tuple[list[Item], list[str]]:
    """Items that can be measured on the available data, quick parts first, and reasons for missing ones."""
    cases, absent = [], []
    for data_set in SETS:
        found = list(_loaders(data / data_set, folder)) if (data / data_set).is_dir() else []
        cases += [(data_set, name, load) for name, load in found]
        absent += [] if found else [f"{data_set}, which has no scans in {data}"]
    items = [Item(part, *case) for part in PARTS for case in cases if part != "medseg" and _applies(part, case[0])]
    if (data / "medseg100").is_dir():
        slices = Item("medseg", "medseg100", "slices", lambda: medseg_confusions(data / "medseg100", networks))
        items.append(slices)
    else:
        absent.append(f"medseg100, which is not in {data}")
    return sorted(items, key=lambda item: PARTS.index(item.part)), absent


def _applies(part: str, data_set: str) -> bool:
    """Whether a part is measured on a data set: threshold lungs only where voxels are HU."""
    own = {"threshold": ("lung_ct",), "lungs": ("lung_ct", "covid_ct_md", "covid20_slices")}
    return data_set in own.get(part, SETS)


def kept(folder: Path, item: Item, networks: Networks, make: Callable[[], Numbers]) -> Numbers:
    """Numbers of an item: stored by item and hashes of the weights in a JSON file, or measured by ``make``."""
    hashes = "_".join(digest(path)[:12] for path in networks.files(item.part)) or "none"
    path = folder / f"{item.part}_{item.data_set}_{item.name}_{hashes}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    found = make()
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(found), encoding="utf-8")
    return found


digest = cache(file_digest)


def measure(item: Item, networks: Networks) -> Numbers:
    """Numbers of one item; only the reason if it cannot be measured, for example because no lungs are found."""
    try:
        return medseg_numbers(item.load()) if item.part == "medseg" else _scan_numbers(item, networks)
    except ValueError as error:
        return {f"not measured: {error}": {}}


def _scan_numbers(item: Item, networks: Networks) -> Numbers:
    scan: Scan = item.load()
    if item.part == "threshold":
        return lung_numbers(scan, find_lungs(scan.image).lungs > 0, THRESHOLD)
    masks = find_lungs(scan.image, networks.segmenter.steps)
    lungs = masks.lungs > 0
    infection = np.zeros_like(lungs) if masks.vbnet_infection is None else masks.vbnet_infection > 0
    if item.part == "vbnet":
        return lung_numbers(scan, lungs, VBNET) | infection_numbers(scan, lungs, {VBNET: infection})
    if item.part == "lungs":
        threshold = find_lungs(scan.image).lungs > 0
        numbers = lung_numbers(scan, lungs & threshold, BOTH)
        _merge(numbers, lung_numbers(scan, lungs | threshold, EITHER))
        return numbers | infection_numbers(scan, threshold, {INSIDE: infection})
    lesions = find_lesions(scan.image, masks, networks.lesions, scan.name).lesions
    dense = np.isin(lesions, (GROUND_GLASS, CONSOLIDATION))
    sources = {LESIONS: dense, BOTH: dense & infection, EITHER: dense | infection}
    return infection_numbers(scan, lungs, sources) | class_numbers(scan, lesions)


def lung_numbers(scan: Scan, lungs: np.ndarray, column: str) -> Numbers:
    """Dice, volume, and volume outside the body and far from the true lungs."""
    numbers: dict[str, float | None] = {"lungs, ml": lungs.sum() * scan.voxel_ml}
    numbers["lung outside the body, ml"] = (lungs & ~scan.body).sum() * scan.voxel_ml
    if "lung" in scan.truth:
        truth = scan.truth["lung"]
        away_mm = ndimage.distance_transform_edt(~truth, sampling=scan.spacing_mm)
        numbers["lungs, Dice"] = dice(lungs, truth)
        numbers[f"lung beyond {FAR_MM:g} mm of the true lungs, ml"] = (lungs & (away_mm > FAR_MM)).sum() * scan.voxel_ml
    return {name: {column: None if value is None else float(value)} for name, value in numbers.items()}


def infection_numbers(scan: Scan, lungs: np.ndarray, sources: Mapping[str, np.ndarray]) -> Numbers:
    """Infection by several sources: ml, % of the lungs; with annotations also Dice and slice AUC."""
    inside = {column: mask & lungs for column, mask in sources.items()}
    litres = max(float(lungs.sum()), 1.0)
    numbers: Numbers = {
        "infection, ml": {column: float(mask.sum() * scan.voxel_ml) for column, mask in inside.items()},
        "infection, % of the lungs": {column: float(100 * mask.sum() / litres) for column, mask in inside.items()},
    }
    if "infection" in scan.truth:
        truth = scan.truth["infection"]
        numbers["infection, Dice"] = {column: dice(mask, truth) for column, mask in inside.items()}
        numbers[f"infection, ml (true: {truth.sum() * scan.voxel_ml:.0f})"] = numbers.pop("infection, ml")
    if len(scan.marked):
        numbers["slice AUC"] = {column: slice_auc(mask, scan) for column, mask in inside.items()}
    return numbers


def class_numbers(scan: Scan, lesions: np.ndarray) -> Numbers:
    """Volume of each class in ml, and Dice of effusion where it is annotated."""
    names = {"ground-glass, ml": GROUND_GLASS, "consolidation, ml": CONSOLIDATION, "effusion, ml": EFFUSION}
    numbers: Numbers = {
        name: {LESIONS: float((lesions == value).sum() * scan.voxel_ml)} for name, value in names.items()
    }
    if "effusion" in scan.truth:
        truth = scan.truth["effusion"]
        numbers["effusion, Dice"] = {LESIONS: dice(lesions == EFFUSION, truth)}
        numbers[f"effusion, ml (true: {truth.sum() * scan.voxel_ml:.0f})"] = numbers.pop("effusion, ml")
    return numbers


def dice(mask: np.ndarray, truth: np.ndarray) -> float | None:
    """Dice of two masks; None where both are empty.

    Example:
        >>> dice(np.array([True, True, False]), np.array([True, False, False])).__round__(3)
        0.667
    """
    total = int(mask.sum()) + int(truth.sum())
    return 2 * int((mask & truth).sum()) / total if total else None


def slice_auc(mask: np.ndarray, scan: Scan) -> float:
    """AUC of the mask's area per slice for the slices that radiologists marked."""
    axis = slice_axis_of(scan.image.affine.numpy())
    areas = mask.sum(axis=tuple(other for other in range(3) if other != axis))
    upwards = scan.image.affine.numpy()[2, axis] > 0
    from_head = areas[::-1] if upwards else areas
    return float(roc_auc_score(scan.marked, from_head))


def medseg_confusions(folder: Path, networks: Networks) -> np.ndarray:
    """Pixels of each slice by true and predicted class, (slices, 4, 4), by the bundle's own evaluation."""
    cases, files = list_cases(folder), networks.medseg_weights
    blocks = (
        [cases] if len(files) == 1 else [split_cases(cases, len(files), k)["validation"] for k in range(len(files))]
    )
    return np.stack([one for weights, block in zip(files, blocks, strict=True) for one in _confusions(weights, block)])


def _confusions(weights: Path, cases: Sequence[Any]) -> Iterator[np.ndarray]:
    files = [str(SEG / "configs" / name) for name in ("train.yaml", "evaluate.yaml")]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser["bundle_root"], parser["ckpt_path"] = str(SEG), str(weights)
    before, inferer, after = (parser.get_parsed_content(key) for key in ("preprocessing", "inferer", "postprocessing"))
    network = load_network(parser.get_parsed_content("network_def"), weights)
    for case in cases:
        item = before(dict(case))
        with torch.no_grad():
            logits = inferer(item["image"].as_tensor()[None], network)[0]
        found = after({**item, "pred": MetaTensor(logits).copy_meta_from(item["image"])})
        yield confusion(np.asarray(found["pred"]).astype(int), np.asarray(found["label"]).astype(int))


def confusion(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Pixels by true (row) and predicted (column) class; ignored pixels are not counted.

    Example:
        >>> confusion(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 255]))[1].tolist()
        [0, 1, 1, 0]
    """
    counted = truth != IGNORE_LABEL
    return np.bincount(truth[counted] * 4 + predicted[counted], minlength=16).reshape(4, 4)


def medseg_numbers(confusions: np.ndarray) -> Numbers:
    """Dice of each class (mean over slices with it; pooled) and of any lesion; confusion of the first two classes."""
    numbers: dict[str, float | None] = {}
    for name, value in {"ground-glass": GROUND_GLASS, "consolidation": CONSOLIDATION, "effusion": EFFUSION}.items():
        each = [_class_dice(one, [value]) for one in confusions if one[value].sum()]
        numbers[f"{name}, Dice, mean of {len(each)} slices with it"] = float(np.mean(each)) if each else None
        numbers[f"{name}, Dice, pooled"] = _class_dice(confusions.sum(axis=0), [value])
    each = [_class_dice(one, [1, 2, 3]) for one in confusions if one[1:].sum()]
    numbers[f"any lesion, Dice, mean of {len(each)} slices with one"] = float(np.mean(each)) if each else None
    total = confusions.sum(axis=0)
    for name, row, column in (("ground-glass called consolidation", 1, 2), ("consolidation called ground-glass", 2, 1)):
        numbers[f"{name}, % of its pixels"] = 100 * total[row, column] / total[row].sum() if total[row].sum() else None
    return {name: {LESIONS: None if value is None else float(value)} for name, value in numbers.items()}


def _class_dice(one: np.ndarray, classes: Sequence[int]) -> float:
    right = one[np.ix_(classes, classes)].sum()
    both = one[classes].sum() + one[:, classes].sum()
    return float(2 * right / both) if both else float("nan")


def _loaders(folder: Path, place: Path) -> Iterator[tuple[str, Callable[[], Scan]]]:
    """Name and loader of each scan of a data set."""
    if folder.name == "covid_ct_md":
        for labels in sorted(folder.glob("*_slices.csv")):
            name = labels.stem.removesuffix("_slices")
            yield name, partial(load_marked, folder / name, labels)
    elif folder.name == "covid20_slices":
        for path in sorted((place / "covid20" / "images").glob("*.nii.gz")):
            yield path.name.removesuffix(".nii.gz"), partial(load_run, path)
    else:
        for path in sorted(folder.glob("*.npz")):
            yield path.stem, partial(load_excerpt, path)


def _convert_runs(folder: Path, place: Path, runs_table: str) -> None:
    """Convert the runs to NIfTI with the package's converter, once."""
    converted = place / "covid20"
    if not converted.is_dir() and any(folder.glob("volume_*.npz")):
        convert_covid20_slices(folder, converted, table=runs_table, num_folds=1)


def load_excerpt(path: Path) -> Scan:
    """A CT in codes of 8 HU, slices from feet to head, with lungs or effusion; lungs may be coded 1 and 2."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name].transpose(2, 1, 0) for name in ("ct", "lung", "effusion") if name in file.files}
        spacing_mm = file["spacing_mm"] if "spacing_mm" in file.files else np.array(USUAL_MM)
    z, y, x = map(float, spacing_mm)
    hu = arrays.pop("ct").astype(np.float32) * HU_STEP + HU_OF_ZERO
    meta = {ImageMetaKey.FILENAME_OR_OBJ: path.stem}
    image = MetaTensor(
        torch.from_numpy(hu)[None], affine=torch.diag(torch.tensor([-x, -y, z, 1.0]).double()), meta=meta
    )
    return Scan(path.stem, image, {name: array > 0 for name, array in arrays.items()}, np.zeros(0, bool))


def load_run(path: Path) -> Scan:
    """A run of slices of the 20 COVID-19 volumes, converted."""
    folder = path.parents[1]
    masks = {"lung": folder / "lungs" / path.name, "infection": folder / "infections" / path.name}
    reader = LabelReader()
    truth = {name: reader.get_data(reader.read(file))[0] > 0 for name, file in masks.items()}
    return Scan(path.name.removesuffix(".nii.gz"), ScanSource(path).image(), truth, np.zeros(0, bool))


def load_marked(dicom: Path, labels: Path) -> Scan:
    """A series of COVID-CT-MD with the slices that radiologists marked; index 0 is at the head (docs/real_check.md).

    Raises:
        ValueError: when the numbers of labels and slices differ.
    """
    image = ScanSource(dicom).image()
    with labels.open(encoding="utf-8") as file:
        rows = {int(row["slice_index_sorted_by_SliceLocation"]): row["infected"] == "1" for row in csv.DictReader(file)}
    slices = image.shape[1 + slice_axis_of(image.affine.numpy())]
    if sorted(rows) != list(range(slices)):
        raise ValueError(f"{labels.name} has {len(rows)} slices, the series {slices}. Give the labels of the series.")
    return Scan(dicom.name, image, {}, np.array([rows[rank] for rank in range(slices)]))


def table(rows: Mapping[tuple[str, str], Numbers]) -> str:
    """Markdown table: one row per case and measure, one column per source."""
    lines = []
    for (data_set, name), numbers in sorted(rows.items(), key=lambda row: (row[0][0], row[0][1])):
        case = f"{data_set}/{name}" + (" (held out)" if name.startswith(HELD_OUT) else "")
        for what, values in numbers.items():
            cells = [_cell(values[column]) if column in values else "" for column in COLUMNS]
            lines.append([case, what, *cells])
    return markdown_table(["case", "measure", *COLUMNS], lines)


def _cell(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"


def _merge(into: Numbers, found: Numbers) -> None:
    for name, values in found.items():
        into.setdefault(name, {}).update(values)


def _plain(rows: Mapping[tuple[str, str], Numbers]) -> dict[str, Numbers]:
    return {f"{data_set}/{name}": numbers for (data_set, name), numbers in rows.items()}


def _words(given: str | Sequence[str]) -> list[str]:
    parts = given.split(",") if isinstance(given, str) else list(given)
    return [str(part).strip() for part in parts if str(part).strip()]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with ended_with_a_message():
        fire.Fire(real_check)
