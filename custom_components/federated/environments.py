"""Where a federation runs other than in a simulation: NVFlare's POC, production, or a job to submit by hand."""

import contextlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_components.federated.job import JobSettings, make_recipe
from custom_components.federated.site_settings import SiteSettings
from custom_components.files.atomic import absolute_path

# End of the status of a job that ran to its end.
COMPLETED = "COMPLETED"

_logger = logging.getLogger(__name__)


def run_in_poc(job: JobSettings, sites: Mapping[str, SiteSettings]) -> None:
    """Run with a real server and clients with certificates on this computer, and stop them at the end.

    Args:
        job: what the federation does.
        sites: settings of each site.
    """
    from nvflare.recipe.poc_env import PocEnv

    _run(make_recipe(job, sites), PocEnv(clients=list(sites)))


def run_in_production(job: JobSettings, startup_kit: str) -> None:
    """Submit to a running federation and wait for its end; the results are then in ``<folder>/result``.

    Args:
        job: what the federation does.
        startup_kit: folder of the administrator's startup kit.
    """
    from nvflare.recipe.prod_env import ProdEnv

    kit = absolute_path(startup_kit)
    with contextlib.chdir(job.folder):
        result = _run(make_recipe(job, here=False), ProdEnv(startup_kit_location=str(kit)))
    if result:
        shutil.copytree(result, job.folder / "result", dirs_exist_ok=True)


def _run(recipe: Any, environment: Any) -> str | None:
    run = recipe.run(environment)
    try:
        found: str | None = run.get_result()
        status = str(run.get_status())
        _logger.info("Job %s ended: %s", run.get_job_id(), status)
    finally:
        if hasattr(environment, "stop"):
            environment.stop()
    if COMPLETED not in status:
        raise ValueError(
            f"The job ended with {status}. The server's log.txt has the reason; submit it again to resume."
        )
    return found


def export(job: JobSettings) -> Path:
    """Write the job for NVFlare's ``submit_job``: settings, first weights, and a launcher as its only code.

    Args:
        job: what the federation does.

    Returns:
        Its folder.
    """
    place = job.folder / "job"
    with contextlib.chdir(job.folder):
        make_recipe(job, here=False).export(str(place))
    _logger.info("Job to review and submit: %s", place)
    return place
