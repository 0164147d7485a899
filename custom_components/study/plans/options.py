"""Check the options of a study and plan it."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.diagnosis.bundle_network import find_bundle
from custom_components.study.plans import cap_study, seg_study
from custom_components.study.plans.cap_study import CapStudy
from custom_components.study.plans.seg_study import SegStudy
from custom_components.study.plans.study import LAST_WEIGHTS, RUNS, TRAIN
from custom_components.study.plans.study_data import Hashes, scan_data, slice_data
from custom_components.study.results.study_results import PAPER
from custom_components.study.runs.study_folder import DATA_HASHES

# Overlays of covid_seg_bundle that a study sets itself or that are not training recipes.
NO_RECIPES = {Path(name).name for name in (LAST_WEIGHTS, seg_study.NO_AUGMENTATION)} | {"all_cases.yaml"}


def plan_cap_study(
    bundle: Path,
    folder: Path,
    dataset_dir: str,
    dry_run: bool = False,
    *,
    test_dir: str | None = None,
    protocol: str = cap_study.NESTED,
    num_folds: int | None = None,
    systems: Sequence[str] | str = tuple(cap_study.SYSTEMS),
    overrides: Mapping[str, Any] | None = None,
    num_panels: int = 6,
    search_thresholds: bool = False,
    seconds_per_step: float | None = None,
) -> CapStudy:
    """Read the scans and plan a study of covid_cap_bundle; see :class:`CapStudy` and ``study`` for the options.

    ``dry_run`` stores nothing, and reads the data files only if runs may have finished. ``num_folds`` must match the
    datalist.

    Raises:
        ValueError: if an option is not valid or the data cannot be used.
    """
    for name, place in {"dataset_dir": dataset_dir, "test_dir": test_dir}.items():
        _check_outside(folder, name, place)
    _one_of("protocol", protocol, (cap_study.NESTED, PAPER))
    _check_count("num_panels", num_panels, 0)
    _check_seconds(seconds_per_step, dry_run)
    _check_folds_and_overrides(num_folds, overrides)
    hashes = _hashes(folder, dry_run)
    data = scan_data(dataset_dir, hashes)
    folds = len({scan["fold"] for scan in data.cases})
    if num_folds not in (None, folds):
        raise ValueError(
            f"The datalist has {folds} folds, but num_folds is {num_folds}. Build the datalist with build_datalist "
            f"--num_folds {num_folds}, or omit --num_folds."
        )
    return CapStudy(
        bundle=bundle,
        folder=folder,
        data=data,
        test=scan_data(test_dir, hashes) if test_dir else None,
        protocol="paper" if protocol == PAPER else "nested",
        systems=_chosen("systems", systems, tuple(cap_study.SYSTEMS)),
        overrides=dict(overrides or {}),
        num_panels=num_panels,
        search_thresholds=search_thresholds,
        seconds_per_step=seconds_per_step,
    )


def plan_seg_study(
    bundle: Path,
    folder: Path,
    dataset_dir: str,
    dry_run: bool = False,
    *,
    protocol: str = seg_study.BOTH,
    num_folds: int = 10,
    networks: Sequence[str] | str = tuple(seg_study.NETWORKS),
    overrides: Mapping[str, Any] | None = None,
    recipe: Sequence[str] | str = (),
    augmentation: str = "both",
) -> SegStudy:
    """Read the cases and plan a study of covid_seg_bundle; see :class:`SegStudy` and ``study`` for the options.

    ``dry_run`` stores nothing, and reads the data files only if runs may have finished. The paper uses 10 folds
    (Sec. III-C).

    Raises:
        ValueError: if an option is not valid or the data cannot be used.
    """
    both = (seg_study.GROUP, PAPER)
    _check_outside(folder, "dataset_dir", dataset_dir)
    _one_of("protocol", protocol, (*both, seg_study.BOTH))
    _one_of("augmentation", augmentation, tuple(seg_study.AUGMENTATION))
    overlays = sorted({path.name for path in (bundle / "configs" / seg_study.RECIPES).glob("*.yaml")} - NO_RECIPES)
    for name in _listed(recipe):
        _one_of("recipe", name, overlays)
    _check_folds_and_overrides(num_folds, overrides)
    return SegStudy(
        bundle=bundle,
        folder=folder,
        data=slice_data(dataset_dir, _hashes(folder, dry_run)),
        protocols=both if protocol == seg_study.BOTH else (protocol,),
        networks=_chosen("networks", networks, tuple(seg_study.ALL_NETWORKS)),
        num_folds=num_folds,
        overrides=dict(overrides or {}),
        recipe=_listed(recipe),
        augmentation=seg_study.AUGMENTATION[augmentation],
    )


# By bundle name: a config file that only this bundle has, and the function that plans its study.
PLANNERS: dict[str, tuple[str, Callable[..., CapStudy | SegStudy]]] = {
    "covid_cap_bundle": ("recipes/size_balanced.yaml", plan_cap_study),
    "covid_seg_bundle": ("networks/unet.yaml", plan_seg_study),
}


def plan_study(
    bundle: str, folder: Path, dataset_dir: str, dry_run: bool = False, **options: Any
) -> CapStudy | SegStudy:
    """Plan the study of a bundle, given by name or path.

    Args:
        bundle: name or path of the bundle.
        folder: output folder of the study.
        dataset_dir: data set in the form that the bundle's training expects.
        dry_run: whether nothing is stored, and the data files are read only if runs may have finished.
        options: options of :func:`plan_cap_study` or :func:`plan_seg_study`; None keeps the default.

    Raises:
        ValueError: if it is neither of the two bundles, or an option is not supported.
    """
    place = studied_bundle(bundle)
    plan = next(plan for mark, plan in PLANNERS.values() if (place / "configs" / mark).is_file())
    given = {name: value for name, value in options.items() if value is not None}
    known = inspect.signature(plan).parameters
    for name in given:
        if name not in known:
            raise ValueError(f"Option {name} is not supported for a study of {place.name}. Remove it.")
    return plan(place, folder, dataset_dir, dry_run, **given)


def studied_bundle(name: str) -> Path:
    """Folder of a bundle, by its path or by its name.

    Raises:
        ValueError: if it is neither of the two bundles.
    """
    given = Path(name).expanduser()
    place = given.absolute() if (given / "configs" / TRAIN).is_file() else find_bundle(given.name)
    if place is None or not any((place / "configs" / mark).is_file() for mark, _ in PLANNERS.values()):
        raise ValueError(f"bundle is {name!r}. Expected {' or '.join(PLANNERS)}, or the path of such a bundle.")
    return place


def _hashes(folder: Path, dry_run: bool) -> Hashes:
    return Hashes(folder / DATA_HASHES, keep=not dry_run, needed=not dry_run or (folder / RUNS).exists())


def _check_outside(folder: Path, name: str, place: str | None) -> None:
    if place and Path(place).is_dir() and folder.resolve().is_relative_to(Path(place).resolve()):
        raise ValueError(f"output_dir is inside {name}. Choose a folder outside, so that results are not read as data.")


def _check_folds_and_overrides(num_folds: int | None, overrides: Mapping[str, Any] | None) -> None:
    if num_folds is not None:
        _check_count("num_folds", num_folds, 2)
    if not isinstance(overrides or {}, Mapping):
        raise ValueError(f"overrides is {overrides!r}. Expected a mapping: --overrides \"{{'epochs': 3}}\".")


def _listed(names: Sequence[str] | str) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _chosen(option: str, names: Sequence[str] | str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Selected names in the order of ``known``."""
    listed = _listed(names)
    for name in listed:
        _one_of(option, name, known)
    if not listed:
        raise ValueError(f"{option} is empty. Expected one or more of: {', '.join(known)}.")
    return tuple(name for name in known if name in listed)


def _one_of(option: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ValueError(f"{option} is {name!r}. Expected one of: {', '.join(known)}.")


def _check_count(option: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{option} is {value!r}. Expected a whole number, {least} or more.")


def _check_seconds(value: object, dry_run: bool) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"seconds_per_step is {value!r}. Expected the seconds of one training step, above 0.")
    if not dry_run:
        raise ValueError("seconds_per_step has no effect on the runs. Add --dry_run, or remove it.")
