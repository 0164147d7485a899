"""``python -m custom_components federated``: train a bundle over several hospitals with NVFlare."""

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from custom_components.command_line.endings import ended_by_ctrl_c
from custom_components.files.atomic import absolute_path, writable_folder
from custom_components.study.plans.options import studied_bundle
from custom_components.study.runs.overrides import check_overrides

if TYPE_CHECKING:
    from custom_components.federated.job import JobSettings

ENVIRONMENTS = ("simulation", "poc", "production", "export")
FILTERS = ("percentile", "svt")
# Config id of a training, for the check of the overrides.
RUN_ID = "training"
# Config values of the split, which a study sets itself; each site has its own split.
SPLIT = ("fold", "num_folds", "protocol")

_logger = logging.getLogger(__name__)


def federated(
    bundle: str,
    output_dir: str,
    sites: Mapping[str, Any] | None = None,
    test_sites: Mapping[str, Any] | None = None,
    config_file: Sequence[str] = ("train.yaml",),
    overrides: Mapping[str, Any] | None = None,
    rounds: int = 10,
    local_epochs: int = 1,
    min_sites: int | None = None,
    wait_s: int = 600,
    fedprox_mu: float | None = None,
    fedopt: Mapping[str, Any] | None = None,
    privacy: Mapping[str, Any] | None = None,
    init_path: str | None = None,
    environment: str = "simulation",
    startup_kit: str | None = None,
) -> None:
    """Train a bundle over several hospitals: scans stay at their site, weights, counts and scores travel. NVFlare.

    Without --environment the sites are simulated on this computer. The same command resumes a stopped federation.

    Args:
        bundle: covid_cap_bundle or covid_seg_bundle, or the path of one.
        output_dir: folder of the results.
        sites: data set of each site by name, such as "{'north': '/data/north', 'south': '/data/south'}".
        test_sites: data sets for the final scores only, by name of the site; by default the validation cases.
        config_file: config files of the bundle, overlays last, such as "['train.yaml', 'recipes/x.yaml']".
        overrides: config values for all sites, such as "{'batch_size': 4}".
        rounds: rounds in total.
        local_epochs: epochs of each site per round.
        min_sites: sites that a round needs; all by default.
        wait_s: seconds to wait for the other sites after min_sites have answered.
        fedprox_mu: weight of FedProx' proximal term; none by default.
        fedopt: the server's optimizer instead of averaging, such as "{'path': 'torch.optim.SGD', 'args': {'lr': 1}}".
        privacy: filter of what leaves a site, such as "{'percentile': {'percentile': 10, 'gamma': 0.01}}", or svt.
        init_path: initial weights; by default those of the bundle's seed.
        environment: simulation, poc (real server and clients on this computer), production or export (a job to submit).
        startup_kit: folder of the administrator's startup kit, for production.
    """
    if importlib.util.find_spec("nvflare") is None:
        raise ValueError('federated needs nvflare. Install: pip install "custom_components[federated]".')
    if environment not in ENVIRONMENTS:
        raise ValueError(f"environment is {environment!r}. Expected {', '.join(ENVIRONMENTS)}.")
    here = environment in ENVIRONMENTS[:2]
    named, tests = _folders(sites), _folders(test_sites)
    _check_sites(named, tests, here, environment)
    _check_numbers(rounds=rounds, local_epochs=local_epochs, min_sites=min_sites or 1, wait_s=wait_s)
    if here and (min_sites or 1) > len(named):
        raise ValueError(f"min_sites is {min_sites}, but there are {len(named)} sites. Expected that many or fewer.")
    if wrong := [name for name in privacy or {} if name not in FILTERS]:
        raise ValueError(f"privacy has {wrong[0]!r}. Expected {' or '.join(FILTERS)}, with the filter's arguments.")
    if environment == "production" and not startup_kit:
        raise ValueError("startup_kit is missing. Give the folder of the administrator's startup kit.")
    from custom_components.federated.job import JobSettings
    from custom_components.federated.site_settings import SiteSettings

    place = studied_bundle(bundle)
    configs = (config_file,) if isinstance(config_file, str) else tuple(config_file)
    given = {"epochs": rounds * local_epochs, "val_interval": local_epochs, **(overrides or {})}
    settings = SiteSettings(str(place) if here else place.name, configs, given, local_epochs)
    checked = {key: value for key, value in (overrides or {}).items() if key not in SPLIT}
    check_overrides(checked, [(settings.config_files(), RUN_ID)])
    job = JobSettings(
        settings, writable_folder(output_dir).resolve(), rounds, min_sites or max(len(named), 1), wait_s, fedprox_mu,
        fedopt, privacy or {}, init_path,
    )  # fmt: skip
    with ended_by_ctrl_c():
        _run(job, named, tests, environment, startup_kit)


def _run(
    job: "JobSettings", sites: Mapping[str, str], tests: Mapping[str, str], environment: str, startup_kit: str | None
) -> None:
    from custom_components.federated.environments import export, run_in_poc, run_in_production
    from custom_components.federated.job import settings_of_sites, simulate

    own = settings_of_sites(job, sites, tests)
    if environment == "simulation":
        simulate(job, own)
    elif environment == "poc":
        run_in_poc(job, own)
    elif environment == "production":
        run_in_production(job, str(startup_kit))
    else:
        export(job)
        return
    _logger.info("Best model, card and scores of the sites (model.pt, model.json, sites.md): %s", job.folder)


def _folders(sites: Mapping[str, Any] | None) -> dict[str, str]:
    return {str(name): str(absolute_path(folder)) for name, folder in (sites or {}).items()}


def _check_sites(sites: Mapping[str, str], tests: Mapping[str, str], here: bool, environment: str) -> None:
    if here and not sites:
        raise ValueError("sites is missing. Give the data set of each site: --sites \"{'north': '/data/north'}\".")
    if not here and (sites or tests):
        raise ValueError(f"sites is for a simulation; in {environment} each hospital sets its own data. Remove it.")
    for name, folder in (*sites.items(), *tests.items()):
        if not Path(folder).exists():
            raise ValueError(f"Site {name}: {folder} does not exist. Expected its data set.")
    if other := [name for name in tests if name not in sites]:
        raise ValueError(f"test_sites has {other[0]!r}, which is not in sites. Expected names of sites.")


def _check_numbers(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < (name != "wait_s"):
            raise ValueError(f"{name} is {number}. Expected a whole number, 1 or more.")
