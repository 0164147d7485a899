"""Local, federated and pooled training of the classifier on phantoms: the table and the figure of docs/federated.md.

    python docs/bench_federated.py OUTPUT [SEEDS]

Three sites with other shares of the four size groups than each other, tiny networks, a common test set. A seed decides
who goes to which site and the first weights.
"""

import json
import logging
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from custom_components.federated.job import JobSettings, settings_of_sites, simulate
from custom_components.federated.scores import pooled_score
from custom_components.federated.site import BundleSite, SiteSettings
from custom_components.phantom.scan_dataset import write_scan_dataset

mpl.use("Agg")
from matplotlib import pyplot as plt

# Share of each size group's patients at each site.
SHARES = {
    "covid_small": (0.70, 0.20, 0.10),
    "covid_large": (0.10, 0.30, 0.60),
    "cap_small": (0.15, 0.70, 0.15),
    "cap_large": (0.20, 0.20, 0.60),
}
SITES = ("north", "south", "east")
SCANS, TEST_SCANS, ROUNDS = 120, 60, 10
PHANTOM = {"shape": (64, 64, 28), "spacing_mm": (5.9, 5.9, 10.0), "minority": 0.4}
NETWORK = {
    **{"grid": [20, 40, 40], "layers": [1, 1, 1, 1], "block_inplanes": [8, 16, 32, 64], "no_max_pool": True},
    **{"batch_size": 8, "norm_batches": 10, "learning_rate": 0.002, "lr_step": 6, "epochs": ROUNDS},
    **{"num_workers": 0, "device": "cpu", "val_interval": 1, "amp": False},
}


def phantoms(folder: Path, num_scans: int, seed: int) -> Path:
    """Phantoms, written unless they are there."""
    if (folder / "datalist.json").is_file():
        return folder
    return write_scan_dataset(folder, num_scans, seed=seed, num_folds=4, **PHANTOM)


def write_data(pool: Path, test: Path, folder: Path, seed: int) -> dict[str, Path]:
    """Phantoms dealt to the sites by patient, all of them in one place, and a test set of other patients."""
    content = json.loads((pool / "datalist.json").read_text(encoding="utf-8"))
    generator, site_of = np.random.default_rng(seed), {}
    for case in content["cases"]:
        case.update({key: str((pool / case[key]).absolute()) for key in ("image", "lung", "infection")})
        shares = SHARES[case["group"]]
        site_of.setdefault(case["patient_id"], SITES[generator.choice(len(SITES), p=shares)])
    found = {"pooled": pool, "test": test}
    for site in SITES:
        found[site] = folder / site
        found[site].mkdir(parents=True, exist_ok=True)
        own = [case for case in content["cases"] if site_of[case["patient_id"]] == site]
        (found[site] / "datalist.json").write_text(json.dumps({**content, "cases": own}), encoding="utf-8")
    return found


def train_alone(data: Path, folder: Path, seed: int) -> dict[str, torch.Tensor]:
    """The weights with the best validation score of a training on one data set, with the federation's epochs."""
    site = BundleSite(
        SiteSettings("covid_cap_bundle", overrides=settings(seed), dataset_dir=str(data), site_dir=str(folder))
    )
    torch.manual_seed(seed)
    site.start()
    network = site._workflow(seed=seed).parser.get_parsed_content("network_def")
    weights = best = {name: value.clone() for name, value in network.state_dict().items()}
    best_score = -1.0
    for _ in range(ROUNDS):
        difference, _ = site.train(weights)
        weights = {name: (value + difference[name]).to(value.dtype) for name, value in weights.items()}
        score = pooled_score([site.evaluate(weights)])
        if score > best_score:
            best, best_score = weights, score
    return best


def settings(seed: int) -> dict[str, object]:
    """Config values of all trainings."""
    return {**NETWORK, "seed": seed}


def test_auc(weights: dict[str, torch.Tensor], data: dict[str, Path], folder: Path) -> float:
    """AUC of weights on the common test set."""
    own = SiteSettings(
        "covid_cap_bundle", overrides=NETWORK, dataset_dir=str(data["pooled"]), site_dir=str(folder / "scored"),
        test_dir=str(data["test"]),
    )  # fmt: skip
    return pooled_score([BundleSite(own).finish(weights, {"name": "val_auc", "value": None, "epoch": 0})])


def run(folder: Path, seed: int) -> list[dict[str, object]]:
    """Test AUC of each site alone, of the federation and of the pooled data."""
    common = folder.parent
    pool, test = phantoms(common / "pooled", SCANS, 100), phantoms(common / "test", TEST_SCANS, 900)
    data = write_data(pool, test, folder / "data", seed)
    rows = []
    for name in (*SITES, "pooled"):
        weights = train_alone(data[name], folder / "alone" / name, seed)
        rows.append({"seed": seed, "training": name, "auc": test_auc(weights, data, folder)})
    own = SiteSettings(str(Path("covid_cap_bundle").absolute()), overrides=settings(seed))
    job = JobSettings(own, folder / "federated", rounds=ROUNDS, min_sites=len(SITES))
    job.folder.mkdir(parents=True)
    simulate(job, settings_of_sites(job, {name: str(data[name]) for name in SITES}))
    weights = torch.load(job.folder / "model.pt", weights_only=True)
    rows.append({"seed": seed, "training": "federated", "auc": test_auc(weights, data, folder)})
    return rows


def draw(scores: pd.DataFrame, path: Path) -> None:
    """A point per seed and training, and the mean."""
    order = [*SITES, "federated", "pooled"]
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for place, name in enumerate(order):
        values = scores[scores["training"] == name]["auc"]
        colour = "C0" if name in SITES else "C1" if name == "federated" else "C2"
        axes.plot(np.full(len(values), place), values, "o", color=colour, alpha=0.6)
        axes.hlines(values.mean(), place - 0.25, place + 0.25, color=colour, linewidth=2)
    axes.set_xticks(range(len(order)), [f"{name} alone" if name in SITES else name for name in order])
    axes.set_ylabel("AUC on the common test set")
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    output, seeds = Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    table = output / "scores.csv"
    for seed in range(seeds):
        done = pd.read_csv(table) if table.is_file() else pd.DataFrame(columns=["seed", "training", "auc"])
        if seed not in set(done["seed"]):
            pd.concat([done, pd.DataFrame(run(output / f"seed_{seed}", seed))]).to_csv(table, index=False)
    draw(pd.read_csv(table), output / "federated.png")
