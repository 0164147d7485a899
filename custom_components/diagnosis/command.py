"""``python -m custom_components diagnose``: from raw CT to findings."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from custom_components.cluster.connection import LOCAL, ClusterOptions
from custom_components.command_line.endings import FAILED, check_flags, ended_by_ctrl_c
from custom_components.diagnosis.bundle_network import precision_settings
from custom_components.diagnosis.case_folder import REPORT, finished_cases
from custom_components.diagnosis.cluster_queue import NetworkFiles, ScanWork, run_cluster_queue
from custom_components.diagnosis.kept_results import StageClock
from custom_components.diagnosis.lesions import check_infection_by
from custom_components.diagnosis.pipeline import Diagnosis
from custom_components.diagnosis.progress import Tell, no_event, write_event
from custom_components.diagnosis.queue import QueueResult, iter_sources, run_queue, scan_sources
from custom_components.diagnosis.scan_run import diagnose_scan
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.diagnosis.weight_files import Weights
from custom_components.files.atomic import absolute_path, writable_folder
from custom_components.reports.queue.overview import write_overview
from custom_components.reports.scan.sentences import findings_line

# Exit status when no network has weights.
NO_NETWORK = 3

_logger = logging.getLogger(__name__)


def diagnose(
    scan: str,
    output_dir: str,
    include_patient_id: bool = False,
    no_lesion_classes: bool = False,
    dicom: bool = True,
    viewer: bool = True,
    profile: bool = False,
    progress: bool = False,
    precision: str = "auto",
    infection_by: str = "either",
    cap_weights: str | None = None,
    seg_weights: str | None = None,
    segment_weights: str | None = None,
    lungmask_weights: str | None = None,
    bundles_dir: str | None = None,
    engine: str = LOCAL,
    address: str | None = None,
    workers: int | None = None,
    cores: float | None = None,
) -> None:
    """Segment, classify and report chest CT without masks. Research use only.

    Each scan gets a folder <output_dir>/<case> with report.json, report.html, viewer.html, masks and maps as NIfTI
    and, for a DICOM series, DICOM objects. Files are written to <case>.incomplete as soon as they are ready, and this
    folder becomes <case> when all are written. The same command skips finished scans and continues unfinished ones.
    Several cases get overview.html and overview.csv in <output_dir>, with those to look at first on top.

    Args:
        scan: NIfTI file, folder of a DICOM study or series, or a folder of these.
        output_dir: folder for the results, outside the scans.
        include_patient_id: write the PatientID in the reports.
        no_lesion_classes: do not segment ground-glass, consolidation and effusion.
        dicom: write DICOM SEG, attention and measurements for a DICOM series.
        viewer: write viewer.html, in which one scrolls through the CT with masks and maps.
        profile: log the seconds of each stage.
        progress: write one JSON line per stage and case to standard output, for the program that started this one.
        precision: auto (bf16 if the CPU supports it), fp32 or bf16.
        infection_by: either (VB-Net or, with lesion classes, the lesion network) or vbnet.
        cap_weights: weights of the classifier; default models/model.pt of covid_cap_bundle, if it exists.
        seg_weights: weights for the lesion classes; default models/model.pt of covid_seg_bundle, if it exists.
        segment_weights: weights of VB-Net; default models/vbnet.pt of covid_cap_bundle, if it exists.
        lungmask_weights: weights of the package lungmask; it then segments the lungs.
        bundles_dir: folder that contains both bundles; default next to the package.
        engine: local (one scan after the other) or ray (on the nodes of a Ray cluster).
        address: auto (the cluster of this computer) or host:port, for Ray; default: Ray on this computer only.
        workers: scans at a time, for Ray; default one for each GPU, or for each --cores CPU cores.
        cores: CPU cores of a worker, for Ray; default 2.
    """
    check_flags(
        include_patient_id=include_patient_id,
        no_lesion_classes=no_lesion_classes,
        dicom=dicom,
        viewer=viewer,
        profile=profile,
        progress=progress,
    )
    if Path(scan).is_dir() and Path(output_dir).resolve().is_relative_to(Path(scan).resolve()):
        raise ValueError("output_dir is inside the folder of the scans. Choose a folder outside it.")
    cluster = ClusterOptions.of(engine, address, workers, cores)
    if cluster is not None and progress:
        raise ValueError(
            "--progress is for one computer. Leave it out with --engine ray, whose dashboard has the tasks."
        )
    weights = Weights.given(cap=cap_weights, seg=seg_weights, segment=segment_weights, lungmask=lungmask_weights)
    precision_settings(precision)
    check_infection_by(infection_by)
    arguments = {
        "weights": weights,
        "bundles_dir": None if bundles_dir is None else absolute_path(bundles_dir),
        "lesion_classes": not no_lesion_classes,
        "precision": precision,
        "include_patient_id": include_patient_id,
        "infection_by": infection_by,
    }
    process = partial(_diagnose_case, dicom=dicom, viewer=viewer, profile=profile)
    if cluster is None:
        result, why = _run_here(scan, output_dir, arguments, process, write_event if progress else no_event)
    else:
        result, why = _run_on_cluster(scan, output_dir, arguments, process, cluster)
    _conclude(result, why)


def _run_here(
    scan: str, output_dir: str, arguments: Mapping[str, Any], process: Callable[..., list[str]], tell: Tell
) -> tuple[QueueResult, str]:
    """Diagnose one scan after the other; the result, and why no network has weights."""
    sources = [replace(source, clock=StageClock(lambda stage: tell(stage=stage))) for source in scan_sources(scan)]
    writable_folder(output_dir)
    diagnosis = Diagnosis(**arguments)
    numbers = {source.path: number for number, source in enumerate(sources, start=1)}

    def process_here(source: ScanSource, folder: Path) -> None:
        tell(case=source.case_id, number=numbers[source.path])
        for sentence in process(source, folder, diagnosis):
            _logger.info("Case %s: %s", source.case_id, sentence)

    tell(scans=len(sources))
    with ended_by_ctrl_c():
        result = run_queue(sources, output_dir, process_here)
        _write_overview(output_dir, result)
    tell(finished=[*result.skipped, *result.done], failed=result.failed)
    return result, diagnosis.why_no_network()


def _run_on_cluster(
    scan: str, output_dir: str, arguments: Mapping[str, Any], process: Callable[..., list[str]], options: ClusterOptions
) -> tuple[QueueResult, str]:
    diagnosis = Diagnosis(**arguments)
    networks, why = NetworkFiles(arguments, diagnosis.all_settings()), diagnosis.why_no_network()
    del diagnosis  # only the workers need the networks
    with ended_by_ctrl_c():
        work = ScanWork(networks, process, Path(output_dir))
        result = run_cluster_queue(iter_sources(absolute_path(scan)), work, options)
        _write_overview(output_dir, result)
    return result, why


def _diagnose_case(
    source: ScanSource, folder: Path, diagnosis: Diagnosis, dicom: bool, viewer: bool, profile: bool
) -> list[str]:
    """Diagnose a scan; returns sentences for the log."""
    diagnose_scan(source, folder, diagnosis, dicom, viewer)
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    table = [f"seconds of its stages\n{source.clock.table()}"] if profile else []
    return [findings_line(report), *report["not_done"], *table]


def _write_overview(output_dir: str, result: QueueResult) -> None:
    overview = write_overview(output_dir, finished_cases(Path(output_dir)), result.failed)
    if overview is not None:
        _logger.info("All cases of the output folder on one page: %s", overview)


def _conclude(result: QueueResult, why: str) -> None:
    result.log()
    if why:
        _logger.error("%s", why)
    if result.failed or why:
        raise SystemExit(FAILED if result.failed else NO_NETWORK)
