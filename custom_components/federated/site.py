"""A bundle at one site of a federation: counts, local training and scores. Nothing here needs NVFlare."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from custom_components._version import __version__
from custom_components.data.size_balanced_sampler import count_groups
from custom_components.federated.scores import site_scores
from custom_components.federated.site_settings import SiteSettings, read_workflow
from custom_components.files.atomic import atomic_path, writable_folder
from custom_components.labels import SYNTHETIC
from custom_components.weights.checkpoints import epoch_checkpoints
from custom_components.weights.not_finite import not_finite, some_names
from monai.bundle import ConfigWorkflow
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject

SAMPLER, SIZE_BALANCED = "train#sampler", "SizeBalancedSampler"

_logger = logging.getLogger(__name__)


class BundleSite:
    """Trains and scores a bundle's network on one site's data, with MONAI's ``MonaiAlgo`` and unmodified configs.

    Weights have the names of the bundle's ``model.pt``. All files are written to ``site_dir``: ``training`` with the
    checkpoints of this site, and at the end ``model.pt`` with ``model.json``, the federation's model with a card that
    lists this site's training cases, so that an evaluation here does not score them as unseen.

    Args:
        settings: settings of the site.
        name: name of the site in the federation.
    """

    def __init__(self, settings: SiteSettings, name: str = "site") -> None:
        self.settings, self.name = settings, name
        self.folder = writable_folder(settings.site_dir or ".")
        self.group_counts: dict[str, int] | None = None
        self._algo: MonaiAlgo | None = None
        self._prefix = ""

    def counts(self) -> dict[str, Any]:
        """Numbers of the site's cases, and what its software must have in common with the others'.

        Returns:
            ``training``, ``validation`` and ``synthetic`` cases, ``groups`` (scans of each size group; None without
            infection ratios) and the ``version`` of this package.

        Raises:
            ValueError: when the site has no case for training.
        """
        workflow = self._workflow()
        split, sampler = workflow.parser.get_parsed_content("split"), workflow.parser.get(SAMPLER, {})
        training = split["training"]
        if not training:
            raise ValueError("This site has no case for training. Check its data and the validation fold.")
        thresholds = {name: sampler[name] for name in ("covid_small_below", "cap_large_above") if name in sampler}
        known = all("ratio" in case and "label" in case for case in training)
        pairs = ([case["label"] for case in training], [case["ratio"] for case in training]) if known else None
        return {
            "training": len(training),
            "validation": len(split["validation"]),
            "synthetic": sum(bool(case.get(SYNTHETIC)) for case in training),
            "groups": count_groups(*pairs, **thresholds) if pairs else None,
            "version": __version__,
        }

    def check_network(self, weights: Mapping[str, Any]) -> None:
        """Check that weights fit the network that this site's config describes.

        Raises:
            ValueError: names the first weight that does not fit.
        """
        check_weights(weights, self.new_network().state_dict(), "This site's network")

    def new_network(self) -> torch.nn.Module:
        """Network that this site's config describes, with random weights."""
        return self._workflow().parser.get_parsed_content("network_def")

    def start(self, group_counts: Mapping[str, int] | None = None, epochs_done: int = 0) -> None:
        """Build trainer and evaluator; no effect if that was done.

        Args:
            group_counts: the federation's scans of each size group, for size-balanced sampling.
            epochs_done: local epochs before this start; the optimizer continues from the checkpoint of that epoch.
        """
        if self._algo is not None:
            return
        workflow = self._workflow(group_counts)
        algo = MonaiAlgo(
            bundle_root=str(self.settings.bundle_root()),
            local_epochs=self.settings.local_epochs,
            config_evaluate_filename=None,
            train_workflow=workflow,
        )
        algo.initialize({ExtraItems.CLIENT_NAME: self.name})
        algo.evaluator = workflow.evaluator
        network = workflow.parser.get_parsed_content("network_def")
        names = {module: name for name, module in algo.trainer.network.named_modules()}  # type: ignore[union-attr]
        self._prefix = f"{names[network]}." if names[network] else ""
        self._algo = algo
        self._resume(epochs_done)

    def evaluate(self, weights: Mapping[str, torch.Tensor]) -> dict[str, Any] | None:
        """Score weights on the site's validation cases, see :func:`site_scores`; None if it has none."""
        algo = self._started()
        parser = algo.train_workflow.parser  # type: ignore[union-attr]
        if not parser.get_parsed_content("split")["validation"]:
            return None
        algo.evaluate(ExchangeObject(weights=self._own_names(weights)))
        return _scores(parser)

    def train(
        self, weights: Mapping[str, torch.Tensor], fedprox_mu: float | None = None
    ) -> tuple[dict[str, torch.Tensor], float]:
        """Train for the local epochs of one round.

        Args:
            weights: the federation's weights.
            fedprox_mu: weight mu of FedProx' proximal term; None or 0 for none.

        Returns:
            New minus old weights, and the site's part of the training: its number of training cases, or with
            size-balanced sampling the number of draws on this site that an epoch of the pooled data would make.

        Raises:
            ValueError: when the network at this site has other weights, or one is not finite.
        """
        algo = self._started()
        if fedprox_mu:
            self._add_proximal_term(fedprox_mu)
        algo.train(ExchangeObject(weights=self._own_names(weights)))
        found = algo.get_weights().weights
        return {name.removeprefix(self._prefix): value for name, value in found.items()}, self._part()

    def finish(self, weights: Mapping[str, torch.Tensor], score: Mapping[str, Any]) -> dict[str, Any] | None:
        """Keep the federation's best model in this site's folder, and score it on the test data, if there are any.

        Args:
            weights: weights of that model.
            score: name, value and round of its score, for the model card.
        """
        workflow = self._started().train_workflow
        self._check(weights)
        with atomic_path(self.folder / "model.pt") as temporary:
            torch.save({name: torch.as_tensor(value).clone() for name, value in weights.items()}, temporary)
        workflow.parser.get_parsed_content("model_card").write(self.folder / "model.pt", score)  # type: ignore[union-attr]
        return self._test(weights) if self.settings.test_dir else None

    def _test(self, weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        workflow = self._workflow(dataset_dir=self.settings.test_dir, fold=None)
        workflow.initialize()
        evaluator = workflow.evaluator
        workflow.parser.get_parsed_content("network_def").load_state_dict(dict(weights))
        evaluator.run()
        return _scores(workflow.parser)

    def _workflow(self, group_counts: Mapping[str, int] | None = None, **values: Any) -> ConfigWorkflow:
        folder = str(self.folder)
        places = {"ckpt_dir": f"{folder}/training", "output_dir": f"{folder}/tensorboard"}
        data = {"dataset_dir": self.settings.dataset_dir, **places, **values}
        workflow = read_workflow(self.settings, **data)
        if "cache_dir" in workflow.parser.get() and "cache_dir" not in self.settings.overrides:
            workflow.parser["cache_dir"] = f"{folder}/cache"  # not in the folder of the bundle
        sampler = workflow.parser.get(SAMPLER, {})
        if group_counts and str(sampler.get("_target_", "")).endswith(SIZE_BALANCED):
            sampler["group_counts"] = dict(group_counts)
        return workflow

    def _started(self) -> MonaiAlgo:
        if self._algo is None:
            self.start()
        assert self._algo is not None
        return self._algo

    def _own_names(self, weights: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        self._check(weights)
        return {f"{self._prefix}{name}": torch.as_tensor(value) for name, value in weights.items()}

    def _check(self, weights: Mapping[str, Any]) -> None:
        network = self._started().train_workflow.parser.get_parsed_content("network_def")  # type: ignore[union-attr]
        check_weights(weights, network.state_dict(), "This site's network")

    def _part(self) -> float:
        trainer = self._started().trainer
        sampler = trainer.data_loader.sampler  # type: ignore[union-attr]
        share = getattr(sampler, "share", None)
        if share is not None:
            return float(share * sum(sampler.group_counts.values()))
        split = self._started().train_workflow.parser.get_parsed_content("split")  # type: ignore[union-attr]
        return float(len(split["training"]))

    def _add_proximal_term(self, mu: float) -> None:
        from custom_components.federated.proximal_term import ProximalTerm

        algo = self._started()
        if not getattr(algo.trainer, "has_proximal_term", False):
            ProximalTerm(mu).attach(algo.trainer)
            algo.trainer.has_proximal_term = True  # type: ignore[union-attr]

    def _resume(self, epochs_done: int) -> None:
        found = epoch_checkpoints(self.folder / "training")
        if epochs_done and epochs_done in found:
            algo = self._started()
            state = torch.load(found[epochs_done], map_location="cpu", weights_only=True)
            parser = algo.train_workflow.parser  # type: ignore[union-attr]
            for name in ("optimizer", "lr_scheduler"):
                parser.get_parsed_content(name).load_state_dict(state[name])
            trainer: Any = algo.trainer
            trainer.state.epoch = epochs_done
            trainer.state.iteration = epochs_done * trainer.state.epoch_length
        elif epochs_done:
            _logger.warning("No checkpoint of epoch %d: the optimizer starts anew at this site.", epochs_done)


def _scores(parser: Any) -> dict[str, Any]:
    metric = next(iter(parser.get_parsed_content("validate#key_metric").values()))
    return site_scores(metric, parser.get_parsed_content("split")["validation"])


def check_weights(weights: Mapping[str, Any], expected: Mapping[str, torch.Tensor], whose: str) -> None:
    """Check names, shapes and numbers of weights.

    Args:
        weights: weights that were received.
        expected: state dict of the network that will use them.
        whose: name of that network in the message.

    Raises:
        ValueError: names the first weight that does not fit.
    """
    if missing := [name for name in expected if name not in weights] + [n for n in weights if n not in expected]:
        raise ValueError(
            f"{whose} has {len(expected)} weights, {len(weights)} were received; {some_names(missing)} are not in "
            "both. Use the same configs, overrides and version at all sites."
        )
    for name, value in weights.items():
        shape, own = tuple(torch.as_tensor(value).shape), tuple(expected[name].shape)
        if math.prod(shape) != math.prod(own) or (shape != own and own):
            raise ValueError(
                f"{whose} has {name} of shape {own}, received was {shape}. Use the same configs and overrides."
            )
    if found := not_finite({name: torch.as_tensor(value) for name, value in weights.items()}):
        raise ValueError(f"Numbers that are not finite were received in {some_names(found)}.")
