"""From a raw CT to findings: read, segment, search for lesions, classify."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, replace
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
from custom_components.diagnosis.classification import Classification, classify
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
from custom_components.diagnosis.weight_files import Weights
from custom_components.files.digest import file_digest
from custom_components.images.ct_reader import NOTES
from custom_components.reports.scan.findings import Model, ScanFindings
from custom_components.transforms.checks.implausible_lungs import LUNG_NOTES
from custom_components.transforms.checks.unlike_training import unlike_training
from custom_components.transforms.infection_ratio import infection_ratio
from custom_components.weights.model_card import SYNTHETIC_ONLY, read_card
from monai.data import MetaTensor

_logger = logging.getLogger(__name__)

CAP_BUNDLE, SEG_BUNDLE = "covid_cap_bundle", "covid_seg_bundle"
CLASSIFIER, LESIONS, SEGMENTER = "COVID-19 or CAP", "lesion classes", "lungs and infection (VB-Net)"
# Default weights in a bundle.
CAP_WEIGHTS = SEG_WEIGHTS = "models/model.pt"
SEGMENT_WEIGHTS = "models/vbnet.pt"

NO_CLASSIFIER = (
    "COVID-19 or community-acquired pneumonia: not done. The classifier has no weights; none for clinical CT are "
    "included. Train the classifier (train.yaml, size_balanced.yaml, then evaluation with ensemble.yaml: docs/README.md"
    " of covid_cap_bundle), or give --cap_weights."
)
NO_LESIONS = (
    "Lesion classes: not done. Their network has no weights; restore those of covid_seg_bundle, or give --seg_weights."
)
LESIONS_LEFT_OUT = "Lesion classes: not done, as requested (--no-lesion_classes)."
NO_RATIO = "P_final: not given. The infection ratio, which weights the two branches, is unknown."


class Diagnosis:
    """All networks that have weights, loaded once for any number of scans.

    Args:
        weights: files of weights.
        bundles_dir: folder that contains the bundles; None searches next to the package.
        lesion_classes: whether to segment lesion classes.
        precision: ``auto`` (bfloat16 if the CPU supports it), ``fp32`` or ``bf16``.
        include_patient_id: whether the findings contain the PatientID.
        infection_by: ``either`` (VB-Net or, with lesion classes, the lesion network) or ``vbnet``.
        classify: whether to load the classifier, if it has weights.

    Raises:
        ValueError: when given weights or the bundle for them are missing or do not fit.
    """

    def __init__(
        self,
        weights: Weights | None = None,
        bundles_dir: str | Path | None = None,
        lesion_classes: bool = True,
        precision: str = "auto",
        include_patient_id: bool = False,
        infection_by: str = EITHER,
        classify: bool = True,
    ) -> None:
        weights = weights or Weights()
        weights.check()
        precision_settings(precision)
        check_infection_by(infection_by)
        if weights.seg is not None and not lesion_classes:
            raise ValueError(
                f"--seg_weights {weights.seg.name} contradicts --no-lesion_classes. Leave out one of them."
            )
        cap = _bundle(CAP_BUNDLE, bundles_dir, weights.cap or weights.segment)
        seg = _bundle(SEG_BUNDLE, bundles_dir, weights.seg)
        cap_weights = _weights(cap, weights.cap, CAP_WEIGHTS) if classify else None
        segment_weights = _weights(cap, weights.segment, SEGMENT_WEIGHTS)
        seg_weights = _weights(seg, weights.seg, SEG_WEIGHTS) if lesion_classes else None
        self.lesion_classes, self.include_patient_id = lesion_classes, include_patient_id
        self.infection_by = infection_by
        self.classifier = _network(cap, cap_weights, CLASSIFIER, precision, "--cap_weights")
        self.lesions = _network(seg, seg_weights, LESIONS, precision, "--seg_weights")
        self.segmenter = _network(cap, segment_weights, SEGMENTER, precision, "--segment_weights", "segment_")
        self.mask_steps = self.segmenter.steps if self.segmenter else BundleSteps(cap)
        self.lungmask = Lungmask(weights.lungmask) if weights.lungmask else None
        places = ((CAP_BUNDLE, cap, SEGMENT_WEIGHTS), (SEG_BUNDLE, seg, SEG_WEIGHTS), (CAP_BUNDLE, cap, CAP_WEIGHTS))
        self._looked_for = [
            f"{default} of {name} ({found or 'not found next to the package'})" for name, found, default in places
        ]
        self._settings: dict[str, Any] = {
            "version": __version__,
            "precision": precision,
            "configs": {bundle.name: file_digest(bundle / INFERENCE) for bundle in (cap, seg) if bundle is not None},
            "lungmask": file_digest(weights.lungmask) if weights.lungmask else None,
            "cards": [read_card(file) for file in (cap_weights, segment_weights, seg_weights)],
        }

    def __call__(self, scan: ScanSource | str | Path | MetaTensor, case_id: str = "scan") -> ScanFindings:
        """Diagnose one scan.

        Args:
            scan: NIfTI file, folder of a DICOM study, or a CT in HU (1, X, Y, Z) with its affine (RAS mm).
            case_id: name of a CT in memory.

        Returns:
            The findings, on the grid of the CT.

        Raises:
            ValueError: naming the case, when it is not a readable chest CT, or no plausible lungs are found.
        """
        if isinstance(scan, MetaTensor):
            given = GivenVolume(scan, case_id)
            return self.find(given, given.image())
        source = scan if isinstance(scan, ScanSource) else ScanSource(Path(scan).expanduser())
        return self.find(source, read_image(source))

    def find(self, source: ScanSource | GivenVolume, image: MetaTensor, stage: Stage = computed) -> ScanFindings:
        """Diagnose a CT that is already read.

        Args:
            source: the scan; its clock measures the stages.
            image: its CT in HU, (1, X, Y, Z).
            stage: computes the result of each stage, or reads it from the files of an earlier run.

        Returns:
            The findings, on the grid of the CT.

        Raises:
            ValueError: naming the case, when no plausible lungs are found.
        """
        masks, lesions, infected = self.segment(source, image, stage)
        case, clock = source.case_id, source.clock
        found = None
        if self.classifier is not None:
            predict = partial(_classification, image, masks, infected, self.classifier, case, clock)
            settings = _network_settings(self.classifier)
            found = stage("classification", settings, ("infection",), predict, Classification.restored)
        odd = image.meta.get(NOTES)
        models = self._models(masks)
        return ScanFindings(
            case_id=case,
            scan_sha256=source.sha256,
            image_hu=np.asarray(image[0]),
            affine=image.affine.numpy(),
            lungs=masks.lungs,
            lung_source=masks.lung_source,
            infection=infected.infection,
            infection_source=infected.infection_source,
            vbnet_infection=masks.vbnet_infection,
            lesions=lesions.lesions,
            lesion_slices=lesions.slices,
            mirror_slices=lesions.mirror_slices,
            mirror_dice=lesions.mirror_dice,
            series=source.series,
            models=models,
            seconds=clock.seconds,
            not_done=self._not_done(masks),
            warnings=(
                *([f"The scan was read, although: {odd}."] if odd else []),
                *masks.warnings,
                *_unlike_training(source, image, masks),
                *(f"{model.name}: {SYNTHETIC_ONLY}." for model in models if model.synthetic),
            ),
            patient_id=(source.chest.patient_id or None) if self.include_patient_id and source.chest else None,
            **({} if found is None else vars(found)),  # scores and attention
        )

    def segment(
        self, source: ScanSource | GivenVolume, image: MetaTensor, stage: Stage = computed
    ) -> tuple[LungMasks, LesionMap, Infection]:
        """Lungs, lesion classes and infection of a CT that is already read; arguments and errors as :meth:`find`."""
        case, clock = source.case_id, source.clock
        made_from = {"image": volume_digest(np.asarray(image[0]), image.affine.numpy()), **self._settings}
        made_from |= _network_settings(self.segmenter)
        masks: LungMasks = stage("masks", made_from, (), lambda: self._masks(image, case, clock), LungMasks)
        lesions = LesionMap()
        if self.lesions is not None:
            search = partial(_lesions, image, masks, self.lesions, case, clock)
            lesions = stage("lesions", _network_settings(self.lesions), ("masks",), search, LesionMap)
        joined = self.lesions is not None and self.infection_by == EITHER
        join = partial(find_infection, masks, lesions, self.infection_by)
        before = ("masks", "lesions") if joined else ("masks",)
        infected: Infection = stage("infection", {"by": self.infection_by}, before, join, Infection)
        return masks, lesions, infected

    def mask_settings(self) -> dict[str, Any]:
        """What the masks of a scan depend on besides the scan itself, by name; plain values."""
        networks = {"VB-Net": self.segmenter, "lesion network": self.lesions}
        digests = {name: network.model.sha256 if network else None for name, network in networks.items()}
        configs = {f"{Path(INFERENCE).name} of {name}": digest for name, digest in self._settings["configs"].items()}
        settings = {key: self._settings[key] for key in ("precision", "lungmask")}
        return {"infection_by": self.infection_by, **settings, **digests, **configs}

    def all_settings(self) -> dict[str, Any]:
        """What the results of a scan depend on besides the scan itself, by name; plain values."""
        classifier = self.classifier.model.sha256 if self.classifier else None
        return {"version": __version__, **self.mask_settings(), "classifier": classifier}

    def why_no_network(self) -> str:
        """Where weights were searched, if no network has any; otherwise empty."""
        if any((self.classifier, self.lesions, self.segmenter, self.lungmask)):
            return ""
        return (
            "No network has weights: the reports have lungs by threshold only. Searched for "
            f"{', '.join(self._looked_for)}. Set --bundles_dir to the folder that contains both bundles, or give "
            "weights: --segment_weights, --seg_weights, --cap_weights."
        )

    def volumes(self) -> tuple[str, ...]:
        """Names of the masks and maps to expect for a scan."""
        infection = ("infection",) if self.segmenter else ()
        maps = MAPS if self.classifier else ()
        return ("lungs", *infection, *maps, *(("lesions",) if self.lesions else ()))

    def _masks(self, image: MetaTensor, case: str, clock: StageClock) -> LungMasks:
        """Lung and infection masks; the CT is checked to be in HU before they are written."""
        _logger.info("Case %s: lungs and infection", case)
        with clock.stage("lungs and infection"):
            masks = find_lungs(image, self.mask_steps, self.lungmask)
            item = {"image": image, "lung": masks.lung_like(image), "case_id": case}
            notes = self.mask_steps.apply("check", item)[LUNG_NOTES]
        return replace(masks, warnings=(notes,) if notes else ())

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


def _network(
    bundle: Path | None, weights: Path | None, name: str, precision: str, option: str, prefix: str = ""
) -> BundleNetwork | None:
    if bundle is None or weights is None:
        return None
    return BundleNetwork.load(bundle, weights, name, precision, prefix, option)


def _bundle(name: str, bundles_dir: str | Path | None, needed_for: Path | None) -> Path | None:
    found = find_bundle(name, bundles_dir)
    if found is None and needed_for is not None:
        raise ValueError(f"{needed_for.name} needs {name}, which is not next to the package. Give --bundles_dir.")
    return found


def _weights(bundle: Path | None, given: Path | None, default: str) -> Path | None:
    if given is not None:
        return given
    return bundle / default if bundle is not None and (bundle / default).is_file() else None


def read_image(source: ScanSource) -> MetaTensor:
    """Read the CT of a scan and measure the time.

    Returns:
        HU, float32 (1, X, Y, Z).

    Raises:
        ValueError: naming the case, when it is not a readable CT volume.
    """
    source.chest  # noqa: B018 (finding the series is a stage of its own)
    with source.clock.stage("read"):
        return source.image()


def _unlike_training(source: ScanSource | GivenVolume, image: MetaTensor, masks: LungMasks) -> tuple[str, ...]:
    hu, affine, series = np.asarray(image[0]), image.affine.numpy(), source.series
    if series is None:
        return unlike_training(hu, masks.lungs, affine)
    return unlike_training(hu, masks.lungs, affine, series.kernel, series.has_contrast)


def _network_settings(network: BundleNetwork | None) -> dict[str, Any]:
    return {"network": None if network is None else asdict(network.model)}


def _lesions(image: MetaTensor, masks: LungMasks, network: BundleNetwork, case: str, clock: StageClock) -> LesionMap:
    with clock.stage("lesion classes"):
        return find_lesions(image, masks, network, case)


def _classification(
    image: MetaTensor, masks: LungMasks, infected: Infection, network: BundleNetwork, case: str, clock: StageClock
) -> Classification:
    with clock.stage("infection ratio"):
        infection = infected.infection
        ratio = math.nan if infection is None else infection_ratio(infection, masks.lungs, case)
    return classify(image, masks, ratio, network, case, clock)
