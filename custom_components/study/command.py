"""``python -m custom_components study``: run a paper's experiments and write its tables and figures."""

import logging
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from custom_components.cluster.connection import LOCAL, ClusterOptions
from custom_components.command_line.endings import check_flags, ended_by_ctrl_c
from custom_components.files.atomic import absolute_path
from custom_components.study.conduct import conduct, plan_text
from custom_components.study.plans.options import plan_study
from custom_components.study.runs.processes import Launch, launch_here
from custom_components.study.runs.ray_processes import ray_launch
from custom_components.study.runs.runner import Outcome, Runner
from custom_components.study.runs.study_folder import check_study_folder, study_folder
from custom_components.study.runs.workers import worker_environments

_logger = logging.getLogger(__name__)


def study(
    bundle: str,
    dataset_dir: str,
    output_dir: str,
    test_dir: str | None = None,
    protocol: str | None = None,
    num_folds: int | None = None,
    systems: Sequence[str] | None = None,
    networks: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    recipe: Sequence[str] | None = None,
    augmentation: str | None = None,
    workers: int | None = None,
    num_panels: int | None = None,
    search_thresholds: bool = False,
    resume_runs: bool = False,
    keep_checkpoints: bool = False,
    dry_run: bool = False,
    seconds_per_step: float | None = None,
    engine: str = LOCAL,
    address: str | None = None,
    cores: float | None = None,
) -> str | None:
    """Run a paper's experiments: cross-validate its systems, then write the paper's tables and figures.

    Finished runs are kept: the same command resumes a stopped study.

    Args:
        bundle: covid_cap_bundle or covid_seg_bundle, or the path of one.
        dataset_dir: data set in the form that the bundle's training expects.
        output_dir: folder of the study, outside the data set.
        test_dir: datalist of other patients, scored by all fold models (covid_cap_bundle).
        protocol: nested (default) or paper for covid_cap_bundle; group, paper or both (default) for covid_seg_bundle.
        num_folds: number of folds; 10 by default (covid_seg_bundle), or that of the datalist (covid_cap_bundle).
        systems: one or more of plain_us, attention_us, attention_ss; all by default (covid_cap_bundle).
        networks: one or more of m, m_a, m_r, unet (these by default) and flexible_unet (covid_seg_bundle).
        overrides: config values for every run that uses them, such as "{'epochs': 3}".
        recipe: overlays for every training, such as "[dice_cross_entropy.yaml]"; none by default (covid_seg_bundle).
        augmentation: train with augmentation, without, or both (default) (covid_seg_bundle).
        workers: number of parallel runs; by default one per GPU, or one on the CPU; with Ray as many as fit.
        num_panels: scans of each set and system whose attention is drawn, at most; 6 by default (covid_cap_bundle).
        search_thresholds: search the ratio thresholds of the ensemble too, not only its weights (covid_cap_bundle).
        resume_runs: resume an interrupted training from its checkpoint instead of restarting it.
        keep_checkpoints: keep checkpoints that no run needs any more.
        dry_run: only list the runs and the estimated time.
        seconds_per_step: seconds of one training step, from which a dry run estimates the time (covid_cap_bundle).
        engine: local (the runs are processes of this computer) or ray (on the nodes of a Ray cluster).
        address: auto (the cluster of this computer) or host:port, for Ray; default: Ray on this computer only.
        cores: CPU cores of a run, for Ray; default 2.
    """
    check_flags(
        search_thresholds=search_thresholds, resume_runs=resume_runs, keep_checkpoints=keep_checkpoints, dry_run=dry_run
    )
    folder = absolute_path(output_dir)
    environments = worker_environments(workers)
    cluster = ClusterOptions.of(engine, address, None if engine == LOCAL else workers, cores)
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it logs every font of every PDF
    with _stopping():
        plan = plan_study(
            bundle, folder, dataset_dir, dry_run=dry_run, test_dir=test_dir, protocol=protocol,
            num_folds=num_folds, systems=systems, networks=networks, overrides=overrides, recipe=recipe,
            augmentation=augmentation, num_panels=num_panels, search_thresholds=search_thresholds or None,
            seconds_per_step=seconds_per_step,
        )  # fmt: skip
        check_study_folder(folder, plan.bundle.name)
        if dry_run:
            return plan_text(plan, len(environments))
        with study_folder(folder, plan.bundle.name) as lock, _launcher(cluster, environments) as (launch, environments):
            runner = Runner(environments, lock, resume_runs, keep_checkpoints, launch=launch)
            settings = {"bundle": plan.bundle.name, "overrides": dict(overrides or {}), "resume_runs": resume_runs}
            outcome = conduct(plan, runner, settings)
    _conclude(outcome, folder)
    return None


@contextmanager
def _launcher(
    cluster: ClusterOptions | None, here: list[dict[str, str]]
) -> Iterator[tuple[Launch, list[dict[str, str]]]]:
    """How to start a run, and the environment variables of each parallel run."""
    if cluster is None:
        yield launch_here, here
        return
    with ray_launch(cluster) as (launch, count):
        yield launch, [{} for _ in range(count)]


def _conclude(outcome: Outcome, folder: Path) -> None:
    _logger.info(
        "%d runs finished, %d of them earlier. Report: %s",
        len(outcome.seconds), len(outcome.before), folder / "report.html",
    )  # fmt: skip
    if outcome.failed:
        reasons = "".join(f"\n  {run.name}: {run.reason}" for run in outcome.failed)
        _logger.error("%d runs did not finish and are missing from the report:%s", len(outcome.failed), reasons)
        raise SystemExit(1)


@contextmanager
def _stopping() -> Iterator[None]:
    """End the study with one log line on Ctrl-C and SIGTERM."""
    earlier = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with ended_by_ctrl_c():
            yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
