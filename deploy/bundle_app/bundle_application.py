import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Operator, init_app_context
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_seg_writer_operator import DICOMSegmentationWriterOperator, SegmentDescription
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
from monai.deploy.operators.dicom_utils import ModelInfo

from bundle_app.bundle_folder import bundle_metadata, find_bundle
from bundle_app.bundle_workflow_operator import BundleWorkflowOperator
from bundle_app.output_folder import check_apart
from bundle_app.private_logs import keep_identity_out_of_logs

_logger = logging.getLogger(__name__)

# An axial CT series as it was reconstructed: no localizer, no reformatted or derived images.
AXIAL_CT = """
{
    "selections": [
        {
            "name": "axial CT",
            "conditions": {
                "Modality": "^CT$",
                "ImageType": ["PRIMARY", "!LOCALIZER"],
                "ImageOrientationPatient": "Axial"
            }
        }
    ]
}
"""
# Ports that carry the selected series.
SELECTION = ("study_selected_series_list", "study_selected_series_list")
RESEARCH_ONLY = "Research use only, not for diagnosis"


class BundleApplication(Application):
    """MONAI Deploy app that runs a bundle's inference on the axial CT series of a DICOM study and writes a DICOM SEG.

    Loader -> selector -> BundleWorkflowOperator -> DICOM SEG writer, which also receives the selected series.

    Of several axial CT series, the one with the most images is used. The input folder is never changed.

    Attributes:
        bundle_name: `name` in the bundle's metadata.
        postfix: file name postfix of the bundle's label map.
        report: file name postfix of the bundle's JSON report.
        series_description: SeriesDescription of the DICOM SEG.
    """

    bundle_name: str
    postfix: str
    report: str
    series_description: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        context = init_app_context(self.argv)
        keep_identity_out_of_logs()
        self.input_folder, self.output_folder = Path(context.input_path), Path(context.output_path)
        check_apart(self.input_folder, self.output_folder)
        self.bundle = find_bundle(context.model_path, self.bundle_name)

    def segment_descriptions(self, metadata: Mapping[str, Any]) -> Sequence[SegmentDescription]:
        """Describe the labels 1, 2, ... of the bundle's label map.

        Args:
            metadata: content of the bundle's `metadata.json`.
        """
        raise NotImplementedError

    def compose(self) -> None:
        """Create the operators and connect them."""
        metadata = bundle_metadata(self.bundle)
        folders = {"input_folder": self.input_folder, "output_folder": self.output_folder}
        loader = DICOMDataLoaderOperator(
            self, CountCondition(self, 1), input_folder=self.input_folder, must_load=False, name="loader"
        )
        selector = DICOMSeriesSelectorOperator(
            self, rules=AXIAL_CT, all_matched=True, sort_by_sop_instance_count=True, name="selector"
        )
        workflow = BundleWorkflowOperator(
            self, bundle=self.bundle, postfix=self.postfix, report=self.report, **folders, name="bundle"
        )
        writer = DICOMSegmentationWriterOperator(
            self,
            segment_descriptions=list(self.segment_descriptions(metadata)),
            model_info=self.model_info(metadata),
            output_folder=self.output_folder,
            custom_tags={"SeriesDescription": self.series_description, "ContentDescription": RESEARCH_ONLY},
            name="seg_writer",
        )
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, workflow, {SELECTION})
        self.add_flow(selector, writer, {SELECTION})
        self.add_flow(workflow, writer, {("seg_image", "seg_image")})
        self.compose_more(selector, workflow, self.model_info(metadata))

    def compose_more(self, selector: Operator, workflow: Operator, model_info: ModelInfo) -> None:
        """Add operators that write more than the DICOM SEG; none by default."""

    def model_info(self, metadata: Mapping[str, Any]) -> ModelInfo:
        """Name and version of the bundle, as written into the DICOM files."""
        return ModelInfo(creator=metadata["authors"], name=self.bundle_name, version=metadata["version"])


def main(application: type[BundleApplication]) -> None:
    """Run an app; an error ends the process with status 1 and its message as the last line."""
    try:
        application().run()
    except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
        _logger.debug("The app failed", exc_info=True)
        sys.exit(f"ERROR {unwrapped(error)}")


def unwrapped(error: BaseException) -> BaseException:
    """The original error behind those that MONAI's config parser raises from it."""
    while str(error).startswith("Failed to evaluate ") and error.__cause__ is not None:
        error = error.__cause__
    return error
