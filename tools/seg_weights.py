"""Train weights for covid_seg_bundle with its best recipe, and score the recipe on held-out blocks of slices.

    python -m tools.seg_weights SLICES OUTPUT [--runs RUNS] [--folds 0,1,2,3,4] [--jobs 1] [--dry_run]

SLICES is the data set, RUNS the output of `convert_covid20_slices` (without it there is no pre-training). Four steps,
each a training by the bundle: M-A on lungs and infection of RUNS at 128 x 128; M-A on SLICES at 128 x 128; the same at
256 x 256; M from these weights at full size. The folds are trained first, then all slices, whose weights are
`OUTPUT/all/m/model.pt`, in half precision.
The same command resumes a stopped run: finished steps are skipped, and a training resumes from its newest checkpoint.
"""

import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import fire
import nibabel
import numpy as np
from custom_components.command_line.endings import ended_with_a_message
from custom_components.files.atomic import absolute_path, atomic_path, writable_folder
from custom_components.study.runs.workers import worker_environments
from custom_components.study.tables.joined_scores import joined_scores

from tools.mixed_training import listed_cases

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "covid_seg_bundle"
ALL = "all"
LOSS, SCHEDULE = "recipes/dice_cross_entropy.yaml", "recipes/cosine_schedule.yaml"
AUGMENTATION = ("recipes/mild_augmentation.yaml", "recipes/contrast_augmentation.yaml")
OVERLAYS = (*AUGMENTATION, LOSS, SCHEDULE, "recipes/body_and_lungs.yaml")
LAST = "recipes/last_weights.yaml"
NO_ATTENTION = "networks/no_attention.yaml"
COMMON = {"draws_per_image": 1, "batch_size": 2, "num_workers": 0}
SPLIT = {"num_folds": 5, "border": 1}
# Class weights of the cross-entropy: background, ground-glass, consolidation, effusion (0.2 % of the pixels).
WEIGHT = {"loss#weight": [0.5, 1, 1, 4]}
ONE_ROUND = {"network_def#num_rounds": 1}  # one round of hashing in training, for speed
PRETRAINING = {
    **COMMON,
    "batch_size": 4,
    "draws_per_image": 120,
    "spatial_size": [128, 128],
    "learning_rate": 0.003,
    "num_folds": 10,
    "fold": 8,
    "epochs": 10,
    "val_interval": 10,
}
# Name of a step -> its overlays, its options, and command-line options that it ignores.
STEPS: dict[str, tuple[tuple[str, ...], dict[str, Any], tuple[str, ...]]] = {
    "m_a_128": (
        ("networks/no_attention.yaml",),
        {"spatial_size": [128, 128], "learning_rate": 0.003, "epochs": 32},
        (),
    ),
    "m_a_256": (
        ("networks/no_attention.yaml",),
        {"spatial_size": [256, 256], "learning_rate": 0.002, "epochs": 24},
        (),
    ),
    # compiling the attention takes longer than its two epochs
    "m": (("recipes/add_attention.yaml",), {"learning_rate": 0.0005, "epochs": 2, **ONE_ROUND}, ("compile",)),
}
# Labels of the pre-training.
INFECTION, LUNG = 1, 2

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """A run of the bundle.

    Attributes:
        verb: `training` or `evaluating`.
        configs: names of config files.
        options: overrides.
        output: file that exists when the step is done.
    """

    verb: str
    configs: Sequence[str]
    output: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    def command(self) -> list[str]:
        """The command line, in the bundle's folder."""
        files = str([f"configs/{name}" for name in self.configs])
        words = [sys.executable, "-m", "monai.bundle", "run", self.verb, "--config_file", files]
        for name, value in self.options.items():
            words += [f"--{name}", str(value)]
        return words


def pretraining(start: Path, more: Mapping[str, Any]) -> Step:
    """M-A on lungs and infection; writes the weights `start`."""
    places = {"dataset_dir": start.parent / "datalist.json", "ckpt_dir": start.parent}
    configs = ("train.yaml", NO_ATTENTION, "recipes/strong_augmentation.yaml", LOSS, SCHEDULE, LAST)
    return training(configs, start, {**PRETRAINING, **places, **more})


def chain(slices: Path, output: Path, block: int | str, start: Path | None, more: Mapping[str, Any]) -> Iterator[Step]:
    """Steps that train without a block of slices and score this block; or that train on all slices."""
    own = {"dataset_dir": slices, **SPLIT, **({} if block == ALL else {"fold": block})}
    last = ("recipes/all_cases.yaml", LAST) if block == ALL else (LAST,)
    place = output / (ALL if block == ALL else f"fold_{block}")
    weights = start
    for name, (overlays, options, unwanted) in STEPS.items():
        begin = {} if weights is None else {"init_path": weights}
        new_output = ("recipes/new_output.yaml",) if weights is not None and weights == start else ()
        weights = place / name / "last.pt"
        configs = ("train.yaml", *overlays, *OVERLAYS, *new_output, *last)
        long = {"val_interval": options["epochs"]}
        asked = {option: value for option, value in more.items() if option not in unwanted}
        yield training(configs, weights, {**own, **COMMON, **WEIGHT, **options, **long, **begin, **asked})
    if block != ALL:
        scored = {**own, "ckpt_path": weights, "output_dir": place / "eval"}
        yield Step("evaluating", ("train.yaml", "evaluate.yaml"), place / "eval" / "summary.json", scored)


def training(configs: Sequence[str], weights: Path, options: Mapping[str, Any]) -> Step:
    """A training that writes `weights` and resumes after a stop."""
    places = {"ckpt_dir": weights.parent, "output_dir": weights.parent / "tensorboard", "resume": True}
    return Step("training", configs, weights, {**places, **options})


def write_labels(runs: Path, folder: Path) -> None:
    """Write the labels of the pre-training (infection and the rest of the lungs) and their datalist."""
    listed = []
    for case in listed_cases(runs):
        infection = nibabel.load(runs / case["infection"])
        lung = nibabel.load(runs / case["lung"])
        labels = np.where(np.asarray(infection.dataobj) > 0, INFECTION, LUNG * (np.asarray(lung.dataobj) > 0))
        path = writable_folder(folder / "labels") / Path(case["infection"]).name
        with atomic_path(path) as temporary:
            nibabel.save(nibabel.Nifti1Image(labels.astype(np.uint8), infection.affine), temporary)
        listed.append({"image": str(runs / case["image"]), "label": str(path)})
    with atomic_path(folder / "datalist.json") as temporary:
        temporary.write_text(json.dumps({"cases": listed}, indent=2) + "\n", encoding="utf-8")


def run(steps: Sequence[Step], environment: Mapping[str, str], quiet: bool) -> None:
    """Run the steps that are not done, one after the other; if `quiet`, each writes a log file."""
    for step in steps:
        if step.output.is_file():
            _logger.info("Already done: %s", step.output)
            continue
        log = writable_folder(step.output.parent.parent) / f"{step.output.parent.name}.log" if quiet else None
        _logger.info("Starting: %s%s", step.output, f"; log: {log}" if log else "")
        child = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
        with log.open("a", encoding="utf-8") if log else nullcontext() as screen:
            ended = subprocess.run(step.command(), cwd=BUNDLE, env=child, stdout=screen, stderr=screen)
        if ended.returncode:
            _logger.error("Failed: %s%s", step.output, f"; see {log}" if log else "")
            raise subprocess.CalledProcessError(ended.returncode, step.command())


def seg_weights(
    slices: str,
    output: str,
    runs: str = "",
    folds: Sequence[int] = (0, 1, 2, 3, 4),
    jobs: int = 1,
    dry_run: bool = False,
    **more: Any,
) -> None:
    """Train and score; see the top of this file.

    Args:
        slices: data set with lesion classes.
        output: folder for weights, scores and logs.
        runs: output of `convert_covid20_slices`.
        folds: blocks of slices that are held out in turn.
        jobs: blocks trained in parallel after the pre-training; they share the cores.
        dry_run: only print the commands.
        more: overrides of every training, such as `--compile True` or `--device cuda`.

    Raises:
        ValueError: when `jobs` is less than 1.
        subprocess.CalledProcessError: when a step fails; other running jobs are finished first.
    """
    folder, base = absolute_path(output), absolute_path(slices)
    source = absolute_path(runs) if runs else None
    start = folder / "pretraining" / "last.pt" if source is not None else None
    listed = [folds] if isinstance(folds, int) else list(folds)
    first = [pretraining(start, more)] if start is not None else []
    chains = [list(chain(base, folder, block, start, more)) for block in (*listed, ALL)]
    free: SimpleQueue[dict[str, str]] = SimpleQueue()
    for environment in worker_environments(jobs):
        free.put(environment)
    if dry_run:
        print("\n".join(shlex.join(step.command()) for steps in (first, *chains) for step in steps))  # noqa: T201
        return
    if source is not None:
        write_labels(source, writable_folder(folder / "pretraining"))
    run(first, {}, quiet=False)

    def run_chain(steps: Sequence[Step]) -> None:
        environment = free.get()
        try:
            run(steps, environment, quiet=jobs > 1)
        finally:
            free.put(environment)

    with ThreadPoolExecutor(jobs) as pool:
        begun = [pool.submit(run_chain, steps) for steps in chains]
        try:
            for job in begun:
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)
    if listed:
        print(joined_scores(*(str(folder / f"fold_{fold}" / "eval") for fold in listed)))  # noqa: T201


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with ended_with_a_message():
        fire.Fire(seg_weights)
