"""``python -m custom_components segment_masks``: from the scans of a data set to the datalist of a training."""

import json
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from custom_components.cluster.connection import LOCAL, ClusterOptions
from custom_components.command_line.endings import FAILED, check_flags, ended_by_ctrl_c
from custom_components.datalists.case_files import natural_key
from custom_components.datalists.datalist_file import datalist_file
from custom_components.datalists.scans import list_scans
from custom_components.diagnosis.bundle_network import bundle_folder, precision_settings
from custom_components.diagnosis.cluster_queue import NetworkFiles, ScanWork, run_cluster_queue
from custom_components.diagnosis.lesions import EITHER, check_infection_by
from custom_components.diagnosis.pipeline import CAP_BUNDLE, SEGMENT_WEIGHTS, Diagnosis
from custom_components.diagnosis.queue import QueueResult, run_queue
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.diagnosis.weight_files import Weights
from custom_components.files.atomic import absolute_path, writable_folder
from custom_components.files.report_files import write_json
from custom_components.infection_size import NORMAL_CLASS
from custom_components.masks.case_masks import CaseMasks, masks_folder, segment_case
from custom_components.masks.data_set import Lists, find_scans, write_lists
from custom_components.masks.overview import SUSPICIOUS_NAME, numbers_text, write_sheets, write_suspicious

SETTINGS_NAME = "settings.json"
TRAIN = "python -m monai.bundle run training --config_file {}/train.yaml --dataset_dir {}"
THREE_CLASSES = "\"['{0}/train.yaml', '{0}/recipes/three_classes.yaml']\""
TRAIN_THREE = f"python -m monai.bundle run training --config_file {THREE_CLASSES} --dataset_dir {{1}}"
EVALUATE = "python -m monai.bundle run evaluating --config_file {}/evaluate.yaml --dataset_dir {} --ckpt_path ..."
TABLE = "case_id, label (covid or cap), patient_id"

_logger = logging.getLogger(__name__)


def segment_masks(
    datalist: str,
    output_dir: str,
    labels: str = "",
    infection_by: str = "either",
    num_folds: int = 5,
    normals: bool = False,
    seed: int = 0,
    precision: str = "auto",
    profile: bool = False,
    segment_weights: str | None = None,
    seg_weights: str | None = None,
    lungmask_weights: str | None = None,
    bundles_dir: str | None = None,
    engine: str = LOCAL,
    address: str | None = None,
    workers: int | None = None,
    cores: float | None = None,
) -> None:
    """Segment lungs and infection of all scans of a data set, and write the datalist for a training.

    The masks are <output_dir>/masks/<case>/<case>_lungs.nii.gz and <case>_infection.nii.gz, on the scan's own grid.
    <output_dir> gets datalist.json (COVID-19 and CAP), other_cases.json (cases of no or another label), contact sheets
    with all masks, and suspicious.csv with the cases to look at first. A failed scan does not stop the others. The same
    command skips finished scans and continues unfinished ones.

    Args:
        datalist: a datalist JSON without masks, or its folder; or scans as for diagnose.
        output_dir: new folder, or that of an earlier run with the same networks and options.
        labels: CSV with the columns case_id, label (covid or cap) and optionally patient_id and fold.
        infection_by: either (VB-Net or the lesion network) or vbnet (as in the paper, and faster).
        num_folds: folds of cross-validation, unless datalist or labels have folds; 1 for evaluation only.
        normals: put normal scans into datalist.json too, for a training with recipes/three_classes.yaml.
        seed: random seed of the folds.
        precision: auto (bf16 if the CPU supports it), fp32 or bf16.
        profile: log the seconds of each stage.
        segment_weights: weights of VB-Net; default models/vbnet.pt of covid_cap_bundle.
        seg_weights: weights of the lesion network; default models/model.pt of covid_seg_bundle, if it exists.
        lungmask_weights: weights of the package lungmask; it then segments the lungs.
        bundles_dir: folder that contains both bundles; default next to the package.
        engine: local (one scan after the other) or ray (on the nodes of a Ray cluster).
        address: auto (the cluster of this computer) or host:port, for Ray; default: Ray on this computer only.
        workers: scans at a time, for Ray; default one for each GPU, or for each --cores CPU cores.
        cores: CPU cores of a worker, for Ray; default 2.
    """
    check_flags(profile=profile, normals=normals)
    check_infection_by(infection_by)
    precision_settings(precision)
    cluster = ClusterOptions.of(engine, address, workers, cores)
    weights = Weights.given(seg=seg_weights, segment=segment_weights, lungmask=lungmask_weights)
    if weights.seg is not None and infection_by != EITHER:
        raise ValueError(f"--seg_weights has no effect with --infection_by {infection_by}. Leave out one of them.")
    folder = absolute_path(output_dir)
    _check_folders(Path(datalist).expanduser(), folder)
    data_set = find_scans(datalist, labels, num_folds, normals)
    arguments = {
        "weights": weights,
        "bundles_dir": None if bundles_dir is None else absolute_path(bundles_dir),
        "lesion_classes": infection_by == EITHER,
        "precision": precision,
        "infection_by": infection_by,
        "classify": False,
    }
    diagnosis = _networks(arguments)
    configs = bundle_folder(CAP_BUNDLE, bundles_dir) / "configs"
    _claim(folder, diagnosis.mask_settings())
    with ended_by_ctrl_c():
        process = partial(_segment_case, profile=profile)
        if cluster is None:
            result = _run_here(data_set.sources, folder, partial(process, diagnosis=diagnosis))
        else:
            networks = NetworkFiles(arguments, diagnosis.all_settings())
            del diagnosis  # only the workers need the networks
            work = ScanWork(networks, process, masks_folder(folder))
            result = run_cluster_queue(data_set.sources, work, cluster, keep_paths=True)
        names = sorted(dict.fromkeys((*result.skipped, *result.done)), key=natural_key)
        cases = [CaseMasks.read(masks_folder(folder) / name) for name in names]
        sheets = write_sheets(folder, cases)
        first = write_suspicious(folder / SUSPICIOUS_NAME, cases, result.failed)
        lists = write_lists(folder, cases, result.paths, data_set, num_folds, seed)
    _logger.info("Wrote %d contact sheets of %d cases: %s", len(sheets), len(cases), folder)
    _logger.info("Wrote %s: %d cases to look at first", folder / SUSPICIOUS_NAME, first)
    result.log()
    _conclude(result, lists, configs)


def _segment_case(source: ScanSource, folder: Path, diagnosis: Diagnosis, profile: bool) -> list[str]:
    """Segment a scan; returns sentences for the log."""
    found = segment_case(source, folder, diagnosis)
    table = [f"seconds of its stages\n{source.clock.table()}"] if profile else []
    return [f"{numbers_text(found)}{''.join(f'; {why}' for why in found.why)}", *table]


def _run_here(
    sources: Sequence[ScanSource], folder: Path, process: Callable[[ScanSource, Path], list[str]]
) -> QueueResult:
    def process_here(source: ScanSource, case: Path) -> None:
        for sentence in process(source, case):
            _logger.info("Case %s: %s", source.case_id, sentence)

    return run_queue(sources, masks_folder(folder), process_here)


def _conclude(result: QueueResult, lists: Lists, configs: Path) -> None:
    """Log the next command; exit with status 1 if scans failed or the cases cannot be split into folds."""
    if lists.problem:
        _logger.error("No datalist for training: %s The masks are kept for another --num_folds.", lists.problem)
    elif lists.training is not None:
        scans = list_scans(lists.training, check_files=False, normals=True)
        train = TRAIN_THREE if any(scan["label"] == NORMAL_CLASS for scan in scans) else TRAIN
        command = train if len({scan["fold"] for scan in scans}) > 1 else EVALUATE  # a single fold leaves no training
        words = (shlex.quote(str(path)) for path in (configs, lists.training))
        _logger.info("Next, after a look at the sheets: %s", command.format(*words))
    elif lists.others is not None:
        _logger.info(
            "Next, for a training: write a CSV with the columns %s and repeat the command with --labels", TABLE
        )
    if result.failed or lists.problem:
        raise SystemExit(FAILED)


def _check_folders(data: Path, folder: Path) -> None:
    """Check that the output folder neither has the datalist nor lies among the scans."""
    listed = datalist_file(data)
    if listed is not None and listed.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{listed} is in output_dir, where the new datalist is written. Choose another folder.")
    if listed is None and data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        raise ValueError("output_dir is inside the folder of the scans. Choose a folder outside it.")


def _networks(arguments: Mapping[str, Any]) -> Diagnosis:
    networks = Diagnosis(**arguments)
    if networks.segmenter is None:
        raise ValueError(
            f"VB-Net has no weights, so infection would be unknown. Restore {SEGMENT_WEIGHTS} of {CAP_BUNDLE}, set "
            "--bundles_dir, or give --segment_weights."
        )
    return networks


def _claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Check that a folder is new, or has masks of the same settings; a new one gets the list of settings."""
    path = folder / SETTINGS_NAME
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or any(child.name[0] != "." for child in folder.iterdir())):
            raise ValueError(f"Output folder {folder} exists, but has no {SETTINGS_NAME}. Choose a new folder.")
        write_json(writable_folder(folder) / SETTINGS_NAME, settings)
        return
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read. Choose a new folder.") from error
    changed = [
        f"{name} was {_shown(before.get(name))}, is {_shown(settings.get(name))}"
        for name in dict.fromkeys((*before, *settings))
        if before.get(name) != settings.get(name)
    ]
    if changed:
        raise ValueError(
            f"{folder} has masks made with other settings: {'; '.join(changed)}. One data set needs one kind of masks: "
            "repeat the settings, or choose a new folder."
        )


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)[:12]
