"""Local, federated and pooled training on phantoms: the table and the figure of docs/federated.md.

    python docs/bench_federated.py OUTPUT lesions|classifier [--seeds 3]

Three sites of unequal size and disease, tiny networks, a common test set of other patients. All trainings have the same
number of epochs and keep the weights with the best validation score. A seed decides who goes to which site and sets the
first weights. ``lesions`` takes minutes, ``classifier`` hours on a slow computer.
"""

import json
import logging
from pathlib import Path
from typing import Any

import fire
import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from custom_components.federated.job import JobSettings, settings_of_sites, simulate
from custom_components.federated.scores import TITLES, pooled_score
from custom_components.federated.site import BundleSite
from custom_components.federated.site_settings import SiteSettings
from custom_components.phantom.dataset import write_slice_dataset
from custom_components.phantom.scan_dataset import write_scan_dataset
from monai.utils import set_determinism
from PIL import Image

mpl.use("Agg")
from matplotlib import pyplot as plt

SITES = ("north", "south", "east")
CPU = {"num_workers": 0, "device": "cpu", "val_interval": 1, "amp": False}
# Share of the patients of each kind at each site.
SHARES = {
    "classifier": {
        "covid_small": (0.70, 0.20, 0.10),
        "covid_large": (0.10, 0.30, 0.60),
        "cap_small": (0.15, 0.70, 0.15),
        "cap_large": (0.20, 0.20, 0.60),
    },
    "lesions": {"with consolidation": (0.05, 0.25, 0.70), "without": (0.40, 0.50, 0.10)},
}
ROUNDS = {"classifier": 12, "lesions": 12}
BUNDLE = {"classifier": "covid_cap_bundle", "lesions": "covid_seg_bundle"}
CONFIGS = {
    "classifier": ("train.yaml",),
    "lesions": ("train.yaml", "networks/no_attention.yaml", "recipes/no_augmentation.yaml"),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "classifier": {
        **{"grid": [40, 80, 80], "layers": [1, 1, 1, 1], "block_inplanes": [8, 16, 32, 64], "no_max_pool": True},
        **{"batch_size": 8, "norm_batches": 20, "learning_rate": 0.002, "lr_step": 6, "epochs": 12, **CPU},
    },
    "lesions": {
        **{"network_def#features": [16, 32], "spatial_size": [64, 64], "batch_size": 4, "learning_rate": 0.004},
        **{"loss#weight": [0.1, 1, 1, 1], "num_folds": 4, "draws_per_image": 1, "epochs": 12, **CPU},
    },
}


def phantoms(task: str, folder: Path, number: int, seed: int) -> Path:
    """Phantoms, written unless they are there."""
    if (folder / "datalist.json").is_file():
        return folder
    if task == "lesions":
        return write_slice_dataset(folder, number, size=(64, 64), seed=seed)
    return write_scan_dataset(folder, number, seed=seed, minority=0.4, num_folds=4)


def kind_of(case: dict[str, Any]) -> str:
    """Size group of a scan; whether a slice has consolidation."""
    if "ratio" in case:
        return str(case["group"])
    return "with consolidation" if (np.asarray(Image.open(case["label"])) == 2).any() else "without"


def deal(task: str, pool: Path, folder: Path, seed: int) -> dict[str, Path]:
    """Data sets of the sites: the patients of the pool, dealt by the kind of their first case."""
    content = json.loads((pool / "datalist.json").read_text(encoding="utf-8"))
    generator, site_of, found = np.random.default_rng(seed), {}, {}
    patient = "patient_id" if task == "classifier" else "group"
    for case in content["cases"]:
        paths = ("image", "lung", "infection") if task == "classifier" else ("image", "label", "lung")
        case.update({key: str((pool / case[key]).absolute()) for key in paths})
        shares = SHARES[task][kind_of(case)]
        site_of.setdefault(case[patient], SITES[generator.choice(len(SITES), p=shares)])
    for site in SITES:
        own = [case for case in content["cases"] if site_of[case[patient]] == site]
        found[site] = folder / site
        found[site].mkdir(parents=True, exist_ok=True)
        (found[site] / "datalist.json").write_text(json.dumps({**content, "cases": own}), encoding="utf-8")
    return found


def train_alone(own: SiteSettings) -> dict[str, torch.Tensor]:
    """Weights with the best validation score of a training on one data set: a federation of one site."""
    site = BundleSite(own)
    set_determinism(seed=own.overrides["seed"])
    site.start()
    network = site.new_network()
    weights = best = {name: value.clone() for name, value in network.state_dict().items()}
    best_score = -1.0
    for _ in range(own.overrides["epochs"]):
        difference, _ = site.train(weights)
        weights = {name: (value + difference[name]).to(value.dtype) for name, value in weights.items()}
        score = pooled_score([site.evaluate(weights)])
        if score > best_score:
            best, best_score = weights, score
    return best


def run(task: str, folder: Path, seed: int) -> list[dict[str, Any]]:
    """Test score of each site alone, of the federation and of the pooled data."""
    number = {"classifier": (240, 120), "lesions": (160, 80)}[task]
    pool, test = phantoms(task, folder / "pooled", number[0], 100), phantoms(task, folder / "test", number[1], 900)
    place = folder / f"seed_{seed}"
    data = {**deal(task, pool, place / "data", seed), "pooled": pool}
    base = SiteSettings(BUNDLE[task], CONFIGS[task], {**SETTINGS[task], "seed": seed})
    rows = []

    def add(name: str, weights: dict[str, torch.Tensor]) -> None:
        own = {"dataset_dir": str(pool), "site_dir": str(place / "scored"), "test_dir": str(test)}
        site = BundleSite(SiteSettings(base.bundle, base.configs, base.overrides, **own))
        scores = site.finish(weights, {"name": "score", "value": None, "epoch": 0})
        rows.append(
            {"seed": seed, "training": name, "cases": size(data.get(name, pool)), "score": pooled_score([scores])}
        )
        logging.warning("%s", rows[-1])

    for name, source in data.items():
        own = {"dataset_dir": str(source), "site_dir": str(place / "alone" / name)}
        add(name, train_alone(SiteSettings(base.bundle, base.configs, base.overrides, **own)))
    job = JobSettings(base, place / "federated", rounds=ROUNDS[task], min_sites=len(SITES))
    job.folder.mkdir(parents=True)
    simulate(job, settings_of_sites(job, {name: str(data[name]) for name in SITES}))
    add("federated", torch.load(job.folder / "model.pt", weights_only=True))
    return rows


def size(source: Path) -> int:
    """Cases of a data set."""
    return len(json.loads((source / "datalist.json").read_text(encoding="utf-8"))["cases"])


def draw(scores: pd.DataFrame, title: str, path: Path) -> None:
    """A point per seed and training, and the mean."""
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    order = [*SITES, "federated", "pooled"]
    for place, name in enumerate(order):
        values = scores[scores["training"] == name]["score"]
        colour = "C0" if name in SITES else "C1" if name == "federated" else "C2"
        axes.plot(np.full(len(values), place), values, "o", color=colour, alpha=0.6)
        axes.hlines(values.mean(), place - 0.25, place + 0.25, color=colour, linewidth=2)
    axes.set_xticks(range(len(order)), [f"{name} alone" if name in SITES else name for name in order])
    axes.set_ylabel(f"{title}, common test set")
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=150)


def main(output: str, task: str = "lesions", seeds: int = 3) -> None:
    """Run and draw; finished seeds are kept."""
    folder = Path(output).absolute() / task
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "scores.csv"
    for seed in range(seeds):
        done = pd.read_csv(table) if table.is_file() else pd.DataFrame()
        if not len(done) or seed not in set(done["seed"]):
            pd.concat([done, pd.DataFrame(run(task, folder, seed))]).to_csv(table, index=False)
        title = TITLES["lesion_dice" if task == "lesions" else "auc"]
        draw(pd.read_csv(table), title, folder / f"federated_{task}.png")


if __name__ == "__main__":
    fire.Fire(main)
