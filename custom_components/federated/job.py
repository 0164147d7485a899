"""The NVFlare job of a federation, and where it runs: simulated on this computer, as POC, or in production."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from custom_components.federated.record import FederationRecord
from custom_components.federated.rounds import SurvivingFedOpt, SurvivingRounds
from custom_components.federated.site_settings import SiteSettings, read_workflow
from custom_components.files.atomic import atomic_path
from custom_components.handlers.load_weights import LoadWeights
from monai.utils import set_determinism
from nvflare.app_common.filters.percentile_privacy import PercentilePrivacy
from nvflare.app_common.filters.svt_privacy import SVTPrivacy
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe

PACKAGE = "custom_components"
# The script that NVFlare copies into the job; the code itself is the installed package of each site.
LAUNCHER = """# What this job does at a site. The code is that of the installed package custom_components.
from custom_components.federated.client import run_site

SETTINGS = {settings}

run_site(SETTINGS)
"""
SCRIPT = "train_at_site.py"
FILTERS = {"percentile": PercentilePrivacy, "svt": SVTPrivacy}
FIRST = "first.pt"


@dataclass(frozen=True)
class JobSettings:
    """What a federation does.

    Args:
        settings: settings of all sites.
        folder: folder of the results on the server.
        rounds: rounds in total, including those of an earlier run of the same folder.
        min_sites: sites that a round needs.
        wait_s: seconds to wait for the others after ``min_sites`` have answered.
        fedprox_mu: mu of FedProx; None for FedAvg.
        fedopt: optimizer of the server, ``{"path": class, "args": {...}}``; None for plain averaging.
        privacy: ``{"percentile": arguments}`` or ``{"svt": arguments}`` of NVFlare's filters; empty for none.
        init_path: initial weights; None for those of the bundle's seed.
    """

    settings: SiteSettings
    folder: Path
    rounds: int = 10
    min_sites: int = 1
    wait_s: int = 600
    fedprox_mu: float | None = None
    fedopt: Mapping[str, Any] | None = None
    privacy: Mapping[str, Any] = field(default_factory=dict)
    init_path: str | None = None


class BundleRecipe(FedAvgRecipe):
    """NVFlare's FedAvgRecipe with the controllers of :mod:`custom_components.federated.rounds`.

    Args:
        job: what the federation does.
        card: network, settings and system, for the model card.
        key_metric: name of the score.
        here: whether the server runs on this computer and writes to the job's folder.
        name: name of the job.
    """

    def __init__(
        self, job: JobSettings, card: dict[str, Any], key_metric: str, here: bool = True, name: str = "federation"
    ) -> None:
        self._kind: type[SurvivingRounds] = SurvivingFedOpt if job.fedopt else SurvivingRounds
        self._own: dict[str, Any] = {
            "min_sites": job.min_sites, "wait_s": job.wait_s, "card": card, "key_metric": key_metric,
            "folder": str(job.folder) if here else "federation", "fedprox_mu": job.fedprox_mu,
        }  # fmt: skip
        if job.fedopt:
            self._own |= {"optimizer_args": dict(job.fedopt), "lr_scheduler_args": _constant()}
        script = _script(job.settings, job.folder)
        super().__init__(
            name=name,
            min_clients=job.min_sites,
            num_rounds=job.rounds,
            train_script=script if here else SCRIPT,  # of the current folder, and at a site of the job's
            model_persistor=PTFileModelPersistor(source_ckpt_file_full_name=FIRST, load_device="cpu"),
            key_metric=key_metric,
        )
        self._job.job.set_app_packages([PACKAGE])
        self.add_server_file(str(job.folder / FIRST))
        for filter_name, arguments in job.privacy.items():
            self.add_client_output_filter(FILTERS[filter_name](**arguments), tasks=["train"])

    def _create_controller(self, persistor_id: str, model_params: Any, model_aggregator: Any) -> SurvivingRounds:
        return self._kind(
            num_clients=self.min_clients, num_rounds=self.num_rounds, persistor_id=persistor_id, **self._own
        )


def _constant() -> dict[str, Any]:
    return {"path": "torch.optim.lr_scheduler.ConstantLR", "args": {"factor": 1.0}}


def _script(settings: SiteSettings, folder: Path) -> str:
    path = folder / SCRIPT
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**asdict(settings), "configs": list(settings.configs)}, indent=4)
    path.write_text(LAUNCHER.format(settings=f"r'''{text}'''"), encoding="utf-8")
    return str(path)


def make_recipe(
    job: JobSettings, sites: Mapping[str, SiteSettings] | None = None, here: bool = True, name: str = "federation"
) -> BundleRecipe:
    """Write the first weights and make the recipe.

    Args:
        job: what the federation does.
        sites: settings of each site on this computer; None where each site sets its own data.
        here: whether the server runs on this computer.
        name: name of the job.

    Raises:
        ValueError: when the initial weights cannot be used.
    """
    parser = read_workflow(job.settings).parser
    set_determinism(seed=parser.get_parsed_content("seed"))
    network = parser.get_parsed_content("network_def")
    set_determinism(seed=None)
    if job.init_path:
        LoadWeights(job.init_path, network, option="--init_path")()
    with atomic_path(job.folder / FIRST) as temporary:
        torch.save(network.state_dict(), temporary)
    system = parser.get("system")
    card = {
        "network": {"_target_": _class_of(network), **getattr(network, "definition", _arguments(parser))},
        "settings": parser.get_parsed_content("settings" if "settings" in parser else "model_card#settings"),
        **({"system": system} if system else {}),
    }
    recipe = BundleRecipe(job, _plain(card), next(iter(parser.get("validate#key_metric"))), here, name)
    if sites:
        scripts = {name: _script(own, job.folder / "sites" / name) for name, own in sites.items()}
        recipe.set_per_site_config({name: {"train_script": path} for name, path in scripts.items()})
    return recipe


def _plain(card: dict[str, Any]) -> dict[str, Any]:
    """The card as JSON would return it, with lists for tuples."""
    found: dict[str, Any] = json.loads(json.dumps(card))
    return found


def _class_of(network: torch.nn.Module) -> str:
    return f"{type(network).__module__}.{type(network).__qualname__}"


def _arguments(parser: Any) -> dict[str, Any]:
    content = parser.get("network_def")
    names = [name for name in content if not name.startswith("_")]
    return {name: parser.get_parsed_content(f"network_def#{name}") for name in names}


def settings_of_sites(
    job: JobSettings, folders: Mapping[str, str], test_folders: Mapping[str, str] | None = None
) -> dict[str, SiteSettings]:
    """Settings of the sites on this computer.

    Args:
        job: what the federation does.
        folders: data of each site.
        test_folders: data for the final scores of each site, if any.
    """
    tests, places = test_folders or {}, job.folder / "sites"
    return {
        name: replace(job.settings, dataset_dir=folder, test_dir=tests.get(name), site_dir=str(places / name))
        for name, folder in folders.items()
    }


def simulate(job: JobSettings, sites: Mapping[str, SiteSettings]) -> None:
    """Run a federation on this computer, a process for each site; a folder with completed rounds is continued.

    Args:
        job: what the federation does.
        sites: settings of each site.

    Raises:
        ValueError: when the federation ended early; says why.
    """
    from nvflare.recipe.sim_env import SimEnv

    workspace = job.folder / "workspace"
    name = next(f"run_{number}" for number in range(1, 10**6) if not (workspace / f"run_{number}").exists())
    recipe = make_recipe(job, sites, name=name)
    environment = SimEnv(clients=list(sites), num_threads=len(sites), workspace_root=str(workspace))
    try:
        recipe.run(environment)
    except RuntimeError as error:
        raise ValueError(FederationRecord.read(job.folder).problem or str(error)) from error
    if problem := FederationRecord.read(job.folder).problem:
        raise ValueError(problem)
