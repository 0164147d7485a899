import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.bundle import run
from monai.deploy.core import ConditionType, Fragment, Operator, OperatorSpec
from monai.deploy.core.domain.dicom_series import DICOMSeries
from monai.deploy.core.domain.dicom_series_selection import StudySelectedSeries

from bundle_app.bundle_folder import INFERENCE
from bundle_app.headers import complete_headers
from bundle_app.label_frames import label_frames
from bundle_app.series_files import as_expression, series_case

_logger = logging.getLogger(__name__)


class BundleWorkflowOperator(Operator):
    """Run a bundle's own `inference.json` on the selected series, as `python -m monai.bundle run` does.

    The SDK's MonaiBundleInferenceOperator replaces the bundle's reader and writers, and thereby its checks for missing,
    duplicate or sheared slices. This operator passes the files of the series to the bundle and reads the label map that
    the bundle writes, so that the app and the bundle give the same result.

    Named input:
        study_selected_series_list: list of StudySelectedSeries; the first series of its only study is used.

    Named outputs:
        seg_image: label map as numpy array (images, Rows, Columns), in the order of the series' images.
        report: content of the bundle's JSON report of the case; may stay unconnected.

    File output:
        the bundle's own results, in `<output_folder>/<SeriesInstanceUID>/`; an invalid UID is replaced as in
        `headers.py`.

    Args:
        fragment: the application.
        bundle: folder of the bundle, with weights.
        input_folder: folder of the DICOM study.
        output_folder: folder for results.
        postfix: the label map's file is `<case>_<postfix>.nii.gz`.
        report: the report's file is `<case>_<report>.json`.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        bundle: Path,
        input_folder: Path,
        output_folder: Path,
        postfix: str,
        report: str,
        **kwargs: Any,
    ) -> None:
        self.bundle = bundle
        self.input_folder = input_folder
        self.output_folder = output_folder
        self.postfix = postfix
        self.report = report
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the inputs and outputs."""
        spec.input("study_selected_series_list")
        spec.output("seg_image")
        spec.output("report").condition(ConditionType.NONE)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Run the bundle on the selected series and emit its label map and report."""
        series = selected_series(op_input.receive("study_selected_series_list"), self.input_folder)
        images = [instance.get_native_sop_instance() for instance in series.get_sop_instances()]
        complete_headers(images, lambda number: images[number].PixelData)
        label, affine, report = self.infer(str(series.SeriesInstanceUID))
        op_output.emit(label_frames(label, affine, images), "seg_image")
        op_output.emit(report, "report")

    def infer(self, series_uid: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Run the bundle on one series.

        Returns:
            The label map (X, Y, Z), its affine (RAS mm) and the report.
        """
        found = series_case(self.input_folder, series_uid)
        run(
            run_id="run",
            config_file=str(self.bundle / INFERENCE),
            logging_file=False,
            bundle_root=str(self.bundle),
            output_dir=str(self.output_folder),
            **{"dataset#data": as_expression([found])},
        )
        case = found["case_id"]
        results = self.output_folder / case
        image = nibabel.load(results / f"{case}_{self.postfix}.nii.gz")
        report = json.loads((results / f"{case}_{self.report}.json").read_text(encoding="utf-8"))
        return np.asarray(image.dataobj), image.affine, report


def selected_series(selection: Sequence[StudySelectedSeries], study: Path) -> DICOMSeries:
    """The first of the selected series, which the selector has sorted by number of images.

    Raises:
        ValueError: when no series was selected, or series of several studies.
    """
    if not selection:
        raise ValueError(
            f"No axial CT series in {study}. Expected Modality CT, ImageType PRIMARY and not LOCALIZER, "
            "an axial ImageOrientationPatient."
        )
    if len(selection) > 1:
        raise ValueError(f"{study} has axial CT series of {len(selection)} studies. Give a folder with one study.")
    found = [selected.series for selected in selection[0].selected_series]
    for other in found[1:]:
        _logger.warning(
            "Series %s (%d images) is not used, because series %s has as many or more (%d). To use it, give its folder "
            "as input.",
            other.SeriesInstanceUID,
            len(other.get_sop_instances()),
            found[0].SeriesInstanceUID,
            len(found[0].get_sop_instances()),
        )
    return found[0]
