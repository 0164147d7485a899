from collections.abc import Mapping, Sequence
from typing import Any

from bundle_app.bundle_application import SELECTION, BundleApplication
from monai.deploy.core import Operator
from monai.deploy.operators.dicom_seg_writer_operator import SegmentDescription
from monai.deploy.operators.dicom_text_sr_writer_operator import DICOMTextSRWriterOperator
from monai.deploy.operators.dicom_utils import ModelInfo
from pydicom.sr.codedict import codes
from scores_text_operator import ScoresTextOperator

# The SDK's default is Latin-1, which lacks the characters of many names.
UTF_8 = "ISO_IR 192"


class CovidCapApp(BundleApplication):
    """COVID-19 or CAP, by covid_cap_bundle: attention levels as DICOM SEG, class scores as DICOM SR and JSON."""

    bundle_name = "COVID-19 or community-acquired pneumonia"
    postfix = "attention_levels"
    report = "diagnosis"
    series_description = "AI attention levels, research use only"

    def segment_descriptions(self, metadata: Mapping[str, Any]) -> Sequence[SegmentDescription]:
        """One segment for each attention level, with the name in the bundle's metadata."""
        names = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        return [
            SegmentDescription(
                segment_label=names[str(level)].replace("_", " ").capitalize(),
                segmented_property_category=codes.SCT.SpatialAndRelationalConcept,
                segmented_property_type=codes.DCM.ClassActivation,
                algorithm_name="covid_cap_bundle",
                algorithm_version=metadata["version"],
                anatomic_regions=[codes.SCT.Chest],
            )
            for level in range(1, len(names))
        ]

    def compose_more(self, selector: Operator, workflow: Operator, model_info: ModelInfo) -> None:
        """Write the class scores as DICOM SR."""
        text = ScoresTextOperator(self, name="scores_text")
        writer = DICOMTextSRWriterOperator(
            self,
            output_folder=self.output_folder,
            model_info=model_info,
            custom_tags={"SeriesDescription": "AI class scores, research use only", "SpecificCharacterSet": UTF_8},
            name="sr_writer",
        )
        self.add_flow(workflow, text, {("report", "report")})
        self.add_flow(text, writer, {("text", "text")})
        self.add_flow(selector, writer, {SELECTION})
