"""The loop of a site under NVFlare's Client API; a job starts it with the site's settings as JSON."""

import numpy as np
import nvflare.client as flare
import torch
from custom_components.federated.exchange import PART, STEP, TRAIN, SiteAnswer, answer
from custom_components.federated.site import BundleSite
from custom_components.federated.site_settings import SiteSettings
from nvflare.app_common.abstract.fl_model import FLModel, MetaKey, ParamsType
from nvflare.app_opt.monai.decomposers import register_monai_types


def run_site(settings: str) -> None:
    """Answer the server until the job ends.

    Args:
        settings: settings of the site as JSON, see :class:`~custom_components.federated.site_settings.SiteSettings`.
    """
    flare.init()
    register_monai_types()
    site = BundleSite(SiteSettings.from_json(settings), flare.get_site_name())
    while flare.is_running():
        task = flare.receive()
        if task is None:
            break
        step, facts = task.meta.get(STEP, TRAIN), task.meta
        weights = {name: torch.tensor(np.array(value)) for name, value in task.params.items()}
        flare.send(as_model(answer(site, step, weights, facts, task.current_round or 0)))


def as_model(found: SiteAnswer) -> FLModel:
    """An answer as NVFlare's model; without weights it has the form of an evaluation."""
    if found.weights is None:
        return FLModel(metrics={"answered": 1.0}, meta=dict(found.facts))
    meta = {**found.facts, MetaKey.NUM_STEPS_CURRENT_ROUND: found.facts[PART]}
    return FLModel(params_type=ParamsType.DIFF, params=found.weights, meta=meta)
