from collections.abc import Mapping, Sequence
from typing import Any

from bundle_app.bundle_application import BundleApplication
from monai.deploy.operators.dicom_seg_writer_operator import SegmentDescription
from pydicom.sr.codedict import codes

# Label, type and anatomic region of segments 1, 2, 3. DICOM has no code for consolidation, which is coded as opacity.
SEGMENTS = (
    ("Ground glass opacity", codes.DCM.GroundGlassOpacity, codes.SCT.Lung),
    ("Consolidation", codes.DCM.Opacity, codes.SCT.Lung),
    ("Pleural effusion", codes.SCT.PleuralEffusion, codes.SCT.Pleura),
)


class CovidSegApp(BundleApplication):
    """Ground-glass opacity, consolidation and pleural effusion of a chest CT as DICOM SEG, by covid_seg_bundle."""

    bundle_name = "COVID-19 lesion segmentation"
    postfix = "seg"
    report = "lesions"
    series_description = "AI lesions, research use only"

    def segment_descriptions(self, metadata: Mapping[str, Any]) -> Sequence[SegmentDescription]:
        """One segment for each lesion class."""
        return [
            SegmentDescription(
                segment_label=label,
                segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
                segmented_property_type=kind,
                algorithm_name="covid_seg_bundle",
                algorithm_version=metadata["version"],
                anatomic_regions=[place],
            )
            for label, kind, place in SEGMENTS
        ]
