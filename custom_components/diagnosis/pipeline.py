"""From a raw CT to findings: read, segment, search for lesions, classify."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from custom_components._version import __version__
from custom_components.diagnosis.bundle_network import (
    INFERENCE,
    BundleNetwork,
    BundleSteps,
    find_bundle,
    precision_settings,
)
from custom_components.diagnosis.classification import classification_again, classify
from custom_components.diagnosis.kept_results import Stage, StageClock, computed, volume_digest
from custom_components.diagnosis.lesions import (
    EITHER,
    Infection,
    LesionMap,
    check_infection_by,
    find_infection,
    find_lesions,
)
from custom_components.diagnosis.lung_sources import Lungmask, LungMasks, find_lungs
from custom_components.diagnosis.scan_files import MAPS
from custom_components.diagnosis.scan_source import GivenVolume, ScanSource
from custom_components.files.digest import file_digest
from custom_components.images.ct_reader import NOTES
from custom_components.reports.scan.findings import Model, ScanFindings
from custom_components.transforms.checks.implausible_lungs import LUNG_NOTES
from custom_components.transforms.infection_ratio import infection_ratio
from custom_components.weights.model_card import read_card
from monai.data import MetaTensor

_logger = logging.getLogger(__name__)

CAP_BUNDLE, SEG_BUNDLE = "covid_cap_bundle", "covid_seg_bundle"
CLASSIFIER, LESIONS, SEGMENTER = "COVID-19 or CAP", "lesion classes", "lungs and infection (VB-Net)"
# Where a bundle has its weights, when none are named.
CAP_WEIGHTS = SEG_WEIGHTS = "models/model.pt"
SEGMENT_WEIGHTS = "models/vbnet.pt"

NO_CLASSIFIER = (
    "COVID-19 or community-acquired pneumonia: not done. The classifier has no weights, and no probability is given "
    "without. There are no clinical weights to come with it. Train it (train.yaml, size_balanced.yaml, "
    "then evaluation with ensemble.yaml: docs/README.md of covid_cap_bundle), or give --cap_weights."
)
NO_LESIONS = (
    "Lesion classes: not done. Their network has no weights; restore those of covid_seg_bundle, or give --seg_weights."
)
LESIONS_LEFT_OUT = "Lesion classes: left out, as asked for (--no-lesion_classes)."
NO_RATIO = "P_final: not given, since the infection ratio is unknown, which weights the two branches."


@dataclass(frozen=True)
class Weights:
    """Files of weights; None takes those of the bundle where it has them.

    Args:
        cap: of the classifier.
        seg: of the lesion classes.
        segment: of VB-Net.
        lungmask: of the package lungmask, used only when given.
    """

    cap: Path | None = None
    seg: Path | None = None
    segment: Path | None = None
    lungmask: Path | None = None

    def check(self) -> None:
        """Check that the files are there.

        Raises:
            ValueError: names the file and its option.
        """
        for name, file in vars(self).items():
            if file is not None and not file.is_file():
                raise ValueError(f"No weights at {file}. Correct the path, or leave --{name}_weights out.")


class Diagnosis:
    """All networks that there are weights for, ready for any number of scans.

    Args:
        weights: files of weights.
        bundles_dir: folder that holds the bundles; None looks beside the package.
        lesion_classes: whether to search for lesions.
        precision: ``auto`` (bfloat16 where the CPU computes it), ``fp32`` or ``bf16``.
        include_patient_id: whether the findings name the patient's ID.
        infection_by: ``either`` (VB-Net or the lesion network, where lesions are searched for), or ``vbnet``.

    Raises:
        ValueError: when weights or a bundle that were named are missing or do not fit.
    """

    def __init__(
        self,
        weights: Weights | None = None,
        bundles_dir: str | Path | None = None,
        lesion_classes: bool = True,
        precision: str = "auto",
        include_patient_id: bool = False,
        infection_by: str = EITHER,
    ) -> None:
        weights = weights or Weights()
        weights.check()
        precision_settings(precision)
        check_infection_by(infection_by)
        if weights.seg is not None and not lesion_classes:
            raise ValueError(f"{weights.seg.name} is for the lesion classes, which are left out. Leave out one option.")
        cap = _bundle(CAP_BUNDLE, bundles_dir, weights.cap or weights.segment)
        seg = _bundle(SEG_BUNDLE, bundles_dir, weights.seg)
        cap_weights = _weights(cap, weights.cap, CAP_WEIGHTS)
        segment_weights = _weights(cap, weights.segment, SEGMENT_WEIGHTS)
        seg_weights = _weights(seg, weights.seg, SEG_WEIGHTS) if lesion_classes else None
        self.lesion_classes, self.include_patient_id = lesion_classes, include_patient_id
        self.infection_by = infection_by
        self.classifier = _network(cap, cap_weights, CLASSIFIER, precision, "--cap_weights")
        self.lesions = _network(seg, seg_weights, LESIONS, precision, "--seg_weights")
        self.segmenter = _network(cap, segment_weights, SEGMENTER, precision, "--segment_weights", "segment_")
        self.of_masks = self.segmenter.steps if self.segmenter else BundleSteps(cap)
        self.lungmask = Lungmask(weights.lungmask) if weights.lungmask else None
        places = ((CAP_BUNDLE, cap, SEGMENT_WEIGHTS), (SEG_BUNDLE, seg, SEG_WEIGHTS), (CAP_BUNDLE, cap, CAP_WEIGHTS))
        self._looked_for = [
            f"{usual} of {name} ({found or 'not found beside the package'})" for name, found, usual in places
        ]
        self._settings = {
            "version": __version__,
            "precision": precision,
            "configs": {bundle.name: file_digest(bundle / INFERENCE) for bundle in (cap, seg) if bundle is not None},
            "lungmask": file_digest(weights.lungmask) if weights.lungmask else None,
            "cards": [read_card(file) for file in (cap_weights, segment_weights, seg_weights)],
        }

    def __call__(self, scan: ScanSource | str | Path | MetaTensor, case_id: str = "scan") -> ScanFindings:
        """Find out about one scan.

        Args:
            scan: NIfTI file, folder of a DICOM study, or a CT in HU (1, X, Y, Z) with its affine (RAS mm).
            case_id: name of a CT that is in memory.

        Returns:
            The findings, on the CT's own grid.

        Raises:
            ValueError: naming the case, when it is no chest CT that can be read, or shows no plausible lungs.
        """
        if isinstance(scan, MetaTensor):
            given = GivenVolume(scan, case_id)
            return self.find(given, given.image())
        source = scan if isinstance(scan, ScanSource) else ScanSource(Path(scan).expanduser())
        return self.find(source, read_image(source))

    def find(self, source: ScanSource | GivenVolume, image: MetaTensor, stage: Stage = computed) -> ScanFindings:
        """As calling it, for a CT that has been read.

        Args:
            source: the scan; its clock measures the stages.
            image: its CT in HU, (1, X, Y, Z).
            stage: gives the result of each stage: computes it, or takes it from where an earlier run has put it.

        Returns:
            The findings, on the CT's own grid.

        Raises:
            ValueError: naming the case, when it shows no plausible lungs.
        """
        case, clock = source.case_id, source.clock
        made_from = {"image": volume_digest(np.asarray(image[0]), image.affine.numpy()), **self._settings}
        masks = stage(
            "masks",
            made_from | _network_settings(self.segmenter),
            (),
            lambda: self._masks(image, case, clock),
            LungMasks,
        )
        lesions = LesionMap()
        if self.lesions is not None:
            lesions = stage(
                "lesions",
                _network_settings(self.lesions),
                ("masks",),
                lambda: self._lesions(image, masks, case, clock),
                LesionMap,
            )
        joined = self.lesions is not None and self.infection_by == EITHER
        before = ("masks", "lesions") if joined else ("masks",)
        infected = stage(
            "infection",
            {"by": self.infection_by},
            before,
            lambda: find_infection(masks, lesions, self.infection_by),
            Infection,
        )
        found = None
        if self.classifier is not None:
            network, ratio = self.classifier, partial(self._ratio, masks, infected, case, clock)
            found = stage(
                "classification",
                _network_settings(network),
                ("infection",),
                lambda: classify(image, masks, ratio(), network, case, clock),
                classification_again,
            )
        return ScanFindings(
            case_id=case,
            scan_sha256=source.sha256,
            image_hu=np.asarray(image[0]),
            affine=image.affine.numpy(),
            lungs=masks.lungs,
            lung_source=masks.lung_source,
            infection=infected.infection,
            infection_source=infected.infection_source,
            lesions=lesions.lesions,
            lesion_slices=lesions.slices,
            series=source.series,
            models=self._models(masks),
            seconds=dict(clock.seconds),
            not_done=self._not_done(masks),
            warnings=(*_odd(image), *masks.warnings),
            patient_id=self._patient_id(source),
            **({} if found is None else vars(found)),  # scores and attention
        )

    def why_no_network(self) -> str:
        """Where weights were looked for, when no network has any; else nothing."""
        if any((self.classifier, self.lesions, self.segmenter, self.lungmask)):
            return ""
        return (
            "No network has weights: lungs by threshold are all that is reported. Looked for "
            f"{', '.join(self._looked_for)}. Give --bundles_dir with the folder that holds both bundles, or files: "
            "--segment_weights, --seg_weights, --cap_weights."
        )

    def volumes(self) -> tuple[str, ...]:
        """Names of the masks and maps that a scan gets, as far as is known before it is looked at."""
        infection = ("infection",) if self.segmenter else ()
        maps = MAPS if self.classifier else ()
        return ("lungs", *infection, *maps, *(("lesions",) if self.lesions else ()))

    def _masks(self, image: MetaTensor, case: str, clock: StageClock) -> LungMasks:
        """Masks, of a CT in HU: that is checked before they are written."""
        _logger.info("Case %s: lungs and infection", case)
        with clock.stage("lungs and infection"):
            masks = find_lungs(image, self.of_masks, self.lungmask)
            checked = self.of_masks.apply("check", {"image": image, "lung": masks.lung_like(image), "case_id": case})
        return replace(masks, warnings=(checked[LUNG_NOTES],) if checked[LUNG_NOTES] else ())

    def _ratio(self, masks: LungMasks, infected: Infection, case: str, clock: StageClock) -> float:
        with clock.stage("infection ratio"):
            return math.nan if infected.infection is None else infection_ratio(infected.infection, masks.lungs, case)

    def _lesions(self, image: MetaTensor, masks: LungMasks, case: str, clock: StageClock) -> LesionMap:
        assert self.lesions is not None
        with clock.stage("lesion classes"):
            return find_lesions(image, masks, self.lesions, case)

    def _models(self, masks: LungMasks) -> tuple[Model, ...]:
        used = self.segmenter is not None and masks.vbnet_infection is not None
        networks = (self.segmenter if used else None, self.classifier, self.lesions)
        return tuple(network.model for network in networks if network is not None)

    def _not_done(self, masks: LungMasks) -> tuple[str, ...]:
        left_out = list(masks.not_done)
        if self.classifier is None:
            left_out.append(NO_CLASSIFIER)
        elif masks.vbnet_infection is None:
            left_out.append(NO_RATIO)
        if not self.lesion_classes:
            left_out.append(LESIONS_LEFT_OUT)
        elif self.lesions is None:
            left_out.append(NO_LESIONS)
        return tuple(left_out)

    def _patient_id(self, source: ScanSource | GivenVolume) -> str | None:
        chest = source.chest if self.include_patient_id else None
        return (chest.patient_id or None) if chest is not None else None


def _network(
    bundle: Path | None, weights: Path | None, name: str, precision: str, option: str, prefix: str = ""
) -> BundleNetwork | None:
    if bundle is None or weights is None:
        return None
    return BundleNetwork.load(bundle, weights, name, precision, prefix, option)


def _bundle(name: str, bundles_dir: str | Path | None, needed_for: Path | None) -> Path | None:
    found = find_bundle(name, bundles_dir)
    if found is None and needed_for is not None:
        raise ValueError(f"{name} was not found beside the package, which {needed_for.name} needs. Give --bundles_dir.")
    return found


def _weights(bundle: Path | None, given: Path | None, usual: str) -> Path | None:
    if given is not None:
        return given
    return bundle / usual if bundle is not None and (bundle / usual).is_file() else None


def read_image(source: ScanSource) -> MetaTensor:
    """Read the CT of a scan; its clock measures it.

    Returns:
        HU, float32 (1, X, Y, Z).

    Raises:
        ValueError: naming the case, when it is no CT volume that can be read.
    """
    source.case_id  # noqa: B018 (finding the series is a stage of its own)
    with source.clock.stage("read"):
        return source.image()


def _odd(image: MetaTensor) -> tuple[str, ...]:
    """What was odd about the CT when it was read, as a sentence."""
    odd = image.meta.get(NOTES)
    return (f"The scan was read, although: {odd}.",) if odd else ()


def _network_settings(network: BundleNetwork | None) -> dict[str, Any]:
    """What decides the output of a network."""
    return {"network": None if network is None else asdict(network.model)}
