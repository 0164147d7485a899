"""What a site answers to each request of a federation's server."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from custom_components.engines.root_cause import root_cause
from custom_components.federated.site import BundleSite

# Requests: case counts before the training, one round of it, scores of a model, and the end with the best model.
STEP, COUNT, TRAIN, SCORE, FINISH = "step", "count", "train", "score", "finish"
COUNTS, GROUPS, SCORES, PROBLEM, PART, BEST = "counts", "groups", "scores", "problem", "part", "score_of_best"
FEDPROX = "fedprox_mu"
# The server receives one of these two texts; the error message may name a case and stays in the site's log.
NOT_FINITE = "the local training produced numbers that are not finite"
FAILED = "it failed; the log of that site has the reason"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SiteAnswer:
    """All that leaves a site.

    Args:
        weights: new minus old weights by name, after a local training.
        facts: counts, scores without names, the site's part of the training, or a problem in fixed words.
    """

    weights: dict[str, torch.Tensor] | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def answer(
    site: BundleSite, step: str, weights: Mapping[str, Any], facts: Mapping[str, Any], round_: int
) -> SiteAnswer:
    """Do what the server requests. An error is an answer too: the site is left out and may take part again.

    Args:
        site: the site's bundle.
        step: ``count``, ``train``, ``score`` or ``finish``.
        weights: the federation's weights.
        facts: what the server sends with them.
        round_: number of the round, from 0.
    """
    try:
        return _ANSWERS[step](site, weights, facts, round_)
    except Exception as error:
        reason = root_cause(error)
        _logger.error("Round %d, %s: %s", round_ + 1, step, reason)
        return SiteAnswer(facts={PROBLEM: NOT_FINITE if "finite" in reason or "became NaN" in reason else FAILED})


def _count(site: BundleSite, weights: Mapping[str, Any], facts: Mapping[str, Any], round_: int) -> SiteAnswer:
    site.check_network(weights)
    return SiteAnswer(facts={COUNTS: site.counts()})


def _train(site: BundleSite, weights: Mapping[str, Any], facts: Mapping[str, Any], round_: int) -> SiteAnswer:
    site.start(facts.get(GROUPS), epochs_done=round_ * site.settings.local_epochs)
    scores = site.evaluate(weights)
    difference, part = site.train(weights, facts.get(FEDPROX))
    return SiteAnswer(difference, {SCORES: scores, PART: part})


def _score(site: BundleSite, weights: Mapping[str, Any], facts: Mapping[str, Any], round_: int) -> SiteAnswer:
    site.start(facts.get(GROUPS), epochs_done=round_ * site.settings.local_epochs)
    return SiteAnswer(facts={SCORES: site.evaluate(weights)})


def _finish(site: BundleSite, weights: Mapping[str, Any], facts: Mapping[str, Any], round_: int) -> SiteAnswer:
    site.start(facts.get(GROUPS), epochs_done=round_ * site.settings.local_epochs)
    return SiteAnswer(facts={SCORES: site.finish(weights, facts[BEST])})


_ANSWERS = {COUNT: _count, TRAIN: _train, SCORE: _score, FINISH: _finish}
