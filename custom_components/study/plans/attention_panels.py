"""Inference runs that draw the attention figures of left-out scans (Fig. 5 and 6 of Ouyang et al. 2020)."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from custom_components.files.atomic import atomic_path
from custom_components.files.report_files import write_json
from custom_components.handlers.load_weights import read_state_dict
from custom_components.study.runs.run import Run

PANEL_CONFIG = "inference.json"
INPUT, DATALIST, WEIGHTS = "input", "datalist.json", "ensemble.pt"
BRANCHES = ("uniform", "size_balanced")


def panel_run(run: Run, scans: Mapping[str, Mapping[str, Any]], rule: pd.Series, weights: Mapping[str, Path]) -> Run:
    """Plan the inference run that draws attention figures.

    Its input files (a datalist and one weights file with both branches) exist only while it runs.

    Args:
        run: the bundle's inference run.
        scans: scans to show, by image name.
        rule: ensemble rule, a row of ``results.ensemble``.
        weights: weights files of ``uniform``, ``size_balanced`` and, if trained, ``plain``.
    """
    given = run.folder.parent / INPUT
    places = {"dataset_dir": given / DATALIST, "ckpt_path": given / WEIGHTS, "output_dir": run.folder / "eval"}
    pairs = {"weights": ("w_outside", "w_inside"), "ratio_thresholds": ("low", "high")}
    own = {key: [float(rule[name]) for name in names] for key, names in pairs.items()}
    return replace(
        run,
        overrides={**run.overrides, **own},
        places={**places, **({"plain_ckpt_path": weights["plain"]} if "plain" in weights else {})},
        outputs=tuple(f"eval/{name}/{name}_attention.png" for name in scans),
        inputs=partial(_inputs, places, list(scans.values()), weights),
    )


def branch_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Translate training overrides to inference, whose network has two branches and the plain network.

    Example:
        >>> branch_overrides({"network_def#alpha": 50, "grid": [8, 20, 16]})
        {'branch_def::alpha': 50, 'plain_def::alpha': 50, 'grid': [8, 20, 16]}
    """
    named: dict[str, Any] = {}
    for key, value in overrides.items():
        first, *rest = key.replace("#", "::").split("::")
        for name in ("branch_def", "plain_def") if first == "network_def" else (first,):
            named["::".join((name, *rest))] = value
    return named


@contextmanager
def _inputs(places: Mapping[str, Path], scans: list[Mapping[str, Any]], weights: Mapping[str, Path]) -> Iterator[None]:
    keys = ("case_id", "image", "lung", "infection", "ratio")
    try:
        write_json(places["dataset_dir"], {"cases": [{key: scan[key] for key in keys} for scan in scans]})
        states = {name: read_state_dict(weights[name]) for name in BRANCHES}
        joint = {f"{name}.{key}": tensor for name, state in states.items() for key, tensor in state.items()}
        with atomic_path(places["ckpt_path"]) as temporary:
            torch.save(joint, temporary)
        yield
    finally:
        shutil.rmtree(places["dataset_dir"].parent, ignore_errors=True)
