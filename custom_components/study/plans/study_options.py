"""What a user asks of a study, checked, and the study that it makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_components.diagnosis.bundle_network import find_bundle
from custom_components.study.plans import cap_plan, seg_plan
from custom_components.study.plans.cap_plan import CapStudy
from custom_components.study.plans.seg_plan import SegStudy
from custom_components.study.plans.study_data import scan_data, slice_data
from custom_components.study.runs.overrides import check_overrides
from custom_components.study.runs.study_folder import DATA_HASHES

DEFAULT_FOLDS = 10  # of a study of covid_seg_bundle, Chen et al. 2020, Sec. III-C
CAP_PROTOCOLS = (cap_plan.NESTED, cap_plan.PAPER)
SEG_PROTOCOLS = (seg_plan.GROUP, seg_plan.PAPER, seg_plan.BOTH)


@dataclass(frozen=True)
class StudyOptions:
    """What is to be studied, as the command line gives it.

    Args:
        bundle: folder of the bundle.
        folder: of the study.
        dataset_dir: as the bundle's training takes it.
        test_dir: of covid_cap_bundle: scans of other patients.
        protocol: None for the bundle's default.
        num_folds: None for the bundle's default.
        systems: of covid_cap_bundle; None for all.
        networks: of covid_seg_bundle; None for those of Table II.
        overrides: numbers of the configs.
        recipe: of covid_seg_bundle: overlays beside every training's train.yaml; None for none.
        augmentation: of covid_seg_bundle: ``both``, ``with`` or ``without``; None for both.

    Raises:
        ValueError: naming the option, what was expected and what came.
    """

    bundle: Path
    folder: Path
    dataset_dir: str
    test_dir: str | None = None
    protocol: str | None = None
    num_folds: int | None = None
    systems: Sequence[str] | str | None = None
    networks: Sequence[str] | str | None = None
    overrides: Mapping[str, Any] | None = None
    recipe: Sequence[str] | str | None = None
    augmentation: str | None = None

    def __post_init__(self) -> None:
        for name, data in {"dataset_dir": self.dataset_dir, "test_dir": self.test_dir}.items():
            if data and Path(data).is_dir() and self.folder.resolve().is_relative_to(Path(data).resolve()):
                raise ValueError(f"output_dir lies in {name}. Name a folder outside, so that results are not read.")
        of_cap = {"systems": self.systems, "test_dir": self.test_dir}
        of_seg = {"networks": self.networks, "recipe": self.recipe, "augmentation": self.augmentation}
        for name, value in (of_seg if self.is_cap else of_cap).items():
            if value is not None:
                raise ValueError(f"{name} is no option of a study of {self.bundle.name}. Leave it out.")
        if self.num_folds is not None and not _is_count(self.num_folds, 2):
            raise ValueError(f"num_folds is {self.num_folds!r}. Expected a whole number, 2 or more.")
        if not isinstance(self.overrides or {}, Mapping):
            raise ValueError(f"overrides is {self.overrides!r}. Expected a mapping: --overrides \"{{'epochs': 3}}\".")
        _one_of("protocol", self.protocol, CAP_PROTOCOLS if self.is_cap else SEG_PROTOCOLS)
        _one_of("augmentation", self.augmentation, tuple(seg_plan.AUGMENTATION))
        for name in self._recipe():
            _one_of("recipe", name, self._overlays())
        check_overrides(self.overrides or {}, self._configs())

    @property
    def is_cap(self) -> bool:
        """Whether the bundle is covid_cap_bundle."""
        return (self.bundle / "configs" / "size_balanced.yaml").is_file()

    def study(self, keep_hashes: bool = True) -> CapStudy | SegStudy:
        """Read the data and plan.

        Args:
            keep_hashes: whether the hashes of the data's files are kept in the study's folder.

        Raises:
            ValueError: when the data cannot be used.
        """
        known = self.folder / DATA_HASHES if keep_hashes else None
        return self._cap_study(known) if self.is_cap else self._seg_study(known)

    def _cap_study(self, known: Path | None) -> CapStudy:
        data = scan_data(self.dataset_dir, known)
        folds = len({scan["fold"] for scan in data.cases})
        if self.num_folds not in (None, folds):
            raise ValueError(
                f"The datalist has {folds} folds and num_folds is {self.num_folds}. Build it with build_datalist "
                f"--num_folds {self.num_folds}, or leave --num_folds out."
            )
        return CapStudy(
            bundle=self.bundle,
            folder=self.folder,
            data=data,
            test=scan_data(self.test_dir, known) if self.test_dir else None,
            protocol=self.protocol or cap_plan.NESTED,
            systems=_chosen("systems", self.systems, tuple(cap_plan.SYSTEMS)),
            overrides=dict(self.overrides or {}),
        )

    def _seg_study(self, known: Path | None) -> SegStudy:
        both = (seg_plan.GROUP, seg_plan.PAPER)
        networks = tuple(seg_plan.NETWORKS) if self.networks is None else self.networks
        return SegStudy(
            bundle=self.bundle,
            folder=self.folder,
            data=slice_data(self.dataset_dir, known),
            protocols=both if self.protocol in (None, seg_plan.BOTH) else (str(self.protocol),),
            networks=_chosen("networks", networks, tuple(seg_plan.ALL_NETWORKS)),
            num_folds=self.num_folds or DEFAULT_FOLDS,
            overrides=dict(self.overrides or {}),
            recipe=self._recipe(),
            augmentation=seg_plan.AUGMENTATION[self.augmentation or "both"],
        )

    def _recipe(self) -> tuple[str, ...]:
        return (self.recipe,) if isinstance(self.recipe, str) else tuple(self.recipe or ())

    def _overlays(self) -> list[str]:
        """Overlays of the bundle that may stand beside every training; what a study sets itself is not among them."""
        own = {
            cap_plan.TRAIN,
            cap_plan.EVALUATE,
            cap_plan.LAST_WEIGHTS,
            seg_plan.NO_AUGMENTATION,
            "full_attention.yaml",
            "all_cases.yaml",
            "onnx_export.yaml",
        }
        networks = {name for _, overlays in seg_plan.ALL_NETWORKS.values() for name in overlays}
        return sorted({path.name for path in (self.bundle / "configs").glob("*.yaml")} - own - networks)

    def _configs(self) -> list[list[str]]:
        return [[str(self.bundle / "configs" / name)] for name in (cap_plan.TRAIN, cap_plan.EVALUATE)]


def bundle_folder(name: str) -> Path:
    """Folder of a bundle, by its path or by its name.

    Raises:
        ValueError: when it is none of the two bundles.
    """
    given = Path(name).expanduser()
    place = given.absolute() if (given / "configs" / cap_plan.TRAIN).is_file() else find_bundle(given.name)
    if place is None or not any((place / "configs" / mark).is_file() for mark in ("size_balanced.yaml", "unet.yaml")):
        raise ValueError(f"bundle is {name!r}. Expected covid_cap_bundle or covid_seg_bundle, or the folder of one.")
    return place


def _chosen(option: str, names: Sequence[str] | str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """The named ones, in their usual order."""
    listed = known if names is None else (names,) if isinstance(names, str) else tuple(names)
    for name in listed:
        _one_of(option, name, known)
    if not listed:
        raise ValueError(f"{option} names none. Expected some of: {', '.join(known)}.")
    return tuple(name for name in known if name in listed)


def _one_of(option: str, name: str | None, known: Sequence[str]) -> None:
    if name is not None and name not in known:
        raise ValueError(f"{option} is {name!r}. Expected one of: {', '.join(known)}.")


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
