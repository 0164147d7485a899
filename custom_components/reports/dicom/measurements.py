"""Volumes and scores of one scan as a DICOM structured report (TID 1500), referring to the segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from custom_components._version import __version__
from custom_components.reports.dicom.source import DEVICE, RESEARCH_ONLY, Source, ascii_text, derivation, network_texts
from custom_components.reports.dicom.structures import PRIVATE_SCHEME, Outlined, concept, private_scheme
from custom_components.reports.lesions import voxel_volume_ml
from custom_components.reports.scan.findings import ScanFindings, Scores

if TYPE_CHECKING:
    from highdicom.seg import Segmentation
    from highdicom.sr import (
        AlgorithmIdentification,
        Comprehensive3DSR,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        ObservationContext,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

    Group = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations

SERIES_NUMBER = 9004

_VOLUME_DECIMALS = 3
_DECIMALS = 4


def make_measurements(
    findings: ScanFindings, source: Source, outlined: Sequence[Outlined], segmentation: Segmentation | None
) -> Comprehensive3DSR:
    """Create the report: volume of each structure, infected percentage of the lung, and scores if available.

    Args:
        findings: findings of the scan.
        source: its CT series.
        outlined: segmented structures; those not found have a volume of 0.
        segmentation: the object with the segments of found structures; None if there are none.

    Returns:
        The report, without patient attributes.
    """
    from highdicom.sr import Comprehensive3DSR, MeasurementReport

    groups: list[Group] = [_structure_group(findings, one, segmentation, source) for one in outlined]
    if findings.scores is not None:
        groups.append(_score_group(findings, findings.scores))
    evidence = source.images if segmentation is None else [*source.images, segmentation]
    content = MeasurementReport(
        observation_context=_observer(),
        procedure_reported=concept("LN", "CTUnspecifiedBodyRegion"),
        title=concept("DCM", "ImagingMeasurementReport"),
        imaging_measurements=groups,
    )
    return Comprehensive3DSR(
        evidence=evidence,
        content=content,
        is_complete=True,
        is_final=False,
        is_verified=False,
        coding_schemes=[private_scheme()],
        **derivation(SERIES_NUMBER, "measurements"),
    )


def _structure_group(
    findings: ScanFindings, outlined: Outlined, segmentation: Segmentation | None, source: Source
) -> Group:
    """Measurements of one structure, with its segment (TID 1411) or, if none was found, without (TID 1501)."""
    from highdicom.sr import (
        FindingSite,
        MeasurementsAndQualitativeEvaluations,
        ReferencedSegment,
        SourceSeriesForSegmentation,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

    structure = outlined.structure
    side = concept("SCT", structure.side) if structure.side else None
    content: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(uid=outlined.tracking_uid, identifier=structure.label),
        "finding_category": concept(*structure.category),
        "finding_type": concept(*structure.kind),
        "finding_sites": [FindingSite(concept(*structure.site), laterality=side)],
        "algorithm_id": _algorithm(structure.label, findings, [f"made by {structure.made_by(findings)}"]),
        "measurements": _sizes(findings, outlined),
    }
    if segmentation is None or outlined.segment is None:
        return MeasurementsAndQualitativeEvaluations(**content)
    segment = ReferencedSegment(
        sop_class_uid=segmentation.SOPClassUID,
        sop_instance_uid=segmentation.SOPInstanceUID,
        segment_number=outlined.segment,
        source_series=SourceSeriesForSegmentation(source.images[0].SeriesInstanceUID),
    )
    return VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **content)


def _sizes(findings: ScanFindings, outlined: Outlined) -> list[Measurement]:
    """Volume in cubic cm (ml); for infection also the percentage of the lungs, if lungs were found."""
    from highdicom.sr import Measurement

    volume_ml = round(outlined.voxels * voxel_volume_ml(findings.affine), _VOLUME_DECIMALS)
    sizes = [Measurement(concept("SCT", "Volume"), volume_ml, concept("UCUM", "CubicCentimeter"))]
    lung = np.count_nonzero(findings.lungs)
    if outlined.structure.kind == (PRIVATE_SCHEME, "INFECTION") and findings.infection is not None and lung:
        infected = np.count_nonzero((findings.infection != 0) & (findings.lungs != 0))
        percent = round(100.0 * infected / lung, _DECIMALS)
        sizes.append(Measurement(concept(PRIVATE_SCHEME, "INFECTED_PERCENT"), percent, concept("UCUM", "Percent")))
    return sizes


def _score_group(findings: ScanFindings, scores: Scores) -> MeasurementsAndQualitativeEvaluations:
    from highdicom.sr import Measurement, MeasurementsAndQualitativeEvaluations, TrackingIdentifier
    from pydicom.uid import generate_uid

    values = {"P_US": scores.p_us, "P_SS": scores.p_ss, "P_FINAL": scores.p_final}
    settings = [f"classified as COVID-19 from {scores.threshold:g}"]
    if scores.weight_us is not None:
        settings.append(f"weight of the branch with uniform sampling {scores.weight_us:.{_DECIMALS}f}")
    kind = concept(PRIVATE_SCHEME, "COVID_OR_CAP")
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=generate_uid(prefix=None), identifier=kind.meaning),
        finding_type=kind,
        algorithm_id=_algorithm(kind.meaning, findings, settings),
        measurements=[
            Measurement(concept(PRIVATE_SCHEME, name), round(value, _DECIMALS), concept("UCUM", "NoUnits"))
            for name, value in values.items()
            if value is not None
        ],
    )


def _algorithm(name: str, findings: ScanFindings, settings: Sequence[str]) -> AlgorithmIdentification:
    from highdicom.sr import AlgorithmIdentification

    parameters = [RESEARCH_ONLY, *map(ascii_text, settings), *network_texts(findings.models)]
    return AlgorithmIdentification(name=name, version=__version__, parameters=parameters)


def _observer() -> ObservationContext:
    """This package as the observer; its UID is the same for all reports of a version."""
    from highdicom.sr import CodedConcept, DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext
    from pydicom.uid import generate_uid

    device = DeviceObserverIdentifyingAttributes(
        uid=generate_uid(prefix=None, entropy_srcs=[DEVICE, __version__]),
        name=DEVICE,
        manufacturer_name=DEVICE,
        model_name=DEVICE,
        serial_number=__version__,
    )
    kind = CodedConcept.from_code(concept("DCM", "Device"))
    return ObservationContext(observer_device_context=ObserverContext(kind, device))
