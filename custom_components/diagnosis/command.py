"""``python -m custom_components diagnose``: from raw CT to findings."""

import json
import logging
from dataclasses import replace
from pathlib import Path

from custom_components.command_line.endings import FAILED, check_flags, ended_by_ctrl_c
from custom_components.diagnosis.bundle_network import precision_settings
from custom_components.diagnosis.case_folder import REPORT, finished_cases
from custom_components.diagnosis.kept_results import StageClock
from custom_components.diagnosis.lesions import check_infection_by
from custom_components.diagnosis.pipeline import Diagnosis
from custom_components.diagnosis.progress import no_event, write_event
from custom_components.diagnosis.queue import QueueResult, run_queue, scan_sources
from custom_components.diagnosis.scan_run import diagnose_scan
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.diagnosis.weight_files import Weights
from custom_components.files.atomic import writable_folder
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
    files = {"cap": cap_weights, "seg": seg_weights, "segment": segment_weights, "lungmask": lungmask_weights}
    weights = Weights(**{name: Path(file) for name, file in files.items() if file is not None})
    weights.check()
    precision_settings(precision)
    check_infection_by(infection_by)
    tell = write_event if progress else no_event
    sources = [replace(source, clock=StageClock(lambda stage: tell(stage=stage))) for source in scan_sources(scan)]
    writable_folder(output_dir)
    diagnosis = Diagnosis(weights, bundles_dir, not no_lesion_classes, precision, include_patient_id, infection_by)

    numbers = {source.path: number for number, source in enumerate(sources, start=1)}

    def process(source: ScanSource, folder: Path) -> None:
        tell(case=source.case_id, number=numbers[source.path])
        diagnose_scan(source, folder, diagnosis, dicom, viewer)
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        _logger.info("Case %s: %s", source.case_id, findings_line(report))
        for sentence in report["not_done"]:
            _logger.info("Case %s: %s", source.case_id, sentence)
        if profile:
            _logger.info("Case %s:\n%s", source.case_id, source.clock.table())

    tell(scans=len(sources))
    with ended_by_ctrl_c():
        result = run_queue(sources, output_dir, process)
        overview = write_overview(output_dir, finished_cases(Path(output_dir)), result.failed)
    tell(finished=[*result.skipped, *result.done], failed=result.failed)
    if overview is not None:
        _logger.info("All cases of the output folder on one page: %s", overview)
    _conclude(result, len(sources), diagnosis.why_no_network())


def _conclude(result: QueueResult, count: int, why: str) -> None:
    result.log(count)
    if why:
        _logger.error("%s", why)
    if result.failed or why:
        raise SystemExit(FAILED if result.failed else NO_NETWORK)
