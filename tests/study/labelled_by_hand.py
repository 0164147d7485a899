"""Slices of scans with labels, drawn from a seed, in the form that a study collects them."""

import numpy as np
import pandas as pd
from custom_components.handlers.slice_table import SLICE
from custom_components.study.results.slice_scores import INFECTED, LOBES

NUM_SLICES = 18


def scan_slices(seed, skill=1.0, lobes=True):
    """Slices of one scan: the first two and the last two have no lung; marked lobes are more infected."""
    rng = np.random.default_rng(seed)
    labels = rng.random((NUM_SLICES, 5)) < 0.25
    labels[[0, 1, -2, -1]] = False
    frame = pd.DataFrame({SLICE: range(NUM_SLICES), INFECTED: labels.any(axis=1).astype(int)})
    frame[LOBES] = labels.astype(float) if lobes else np.nan
    for side, own in {"left": labels[:, :2], "right": labels[:, 2:]}.items():
        lung = rng.uniform(40, 120, NUM_SLICES).round(3)
        lung[[0, 1, -2, -1]] = 0
        frame[f"lung_{side}_cm2"] = lung
        for name in ("infection", "attention"):
            share = (skill * 0.3 * own.any(axis=1) + rng.uniform(0, 0.4, NUM_SLICES)).clip(0, 1)
            frame[f"{name}_{side}_cm2"] = lung * np.where(share < 0.1, 0, share)
    return frame


def labelled_results(results, per_class=5, lobes=True):
    """Slices of the first scans of each class and set, by each model of the systems with a network."""
    systems, parts = results.systems[:-1], []
    for (name, label), cases in results.cases.groupby(["set", "label"], sort=False):
        for number, case in enumerate(cases.head(per_class).itertuples()):
            for place, system in enumerate(systems):
                for fold in [case.fold] if name == "tv" else results.folds:
                    own = scan_slices(100 * number + label, lobes=lobes)
                    changed = own.filter(like="attention") * np.random.default_rng(place + 7 * fold).uniform(
                        0.2, 1, (NUM_SLICES, 2)
                    )
                    own[changed.columns] = changed
                    parts.append(own.assign(system=system, set=name, fold=fold, case_id=case.case_id))
    return pd.concat(parts, ignore_index=True)
