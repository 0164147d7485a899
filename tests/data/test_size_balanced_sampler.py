import logging
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from custom_components.data.size_balanced_sampler import SizeBalancedSampler, count_groups
from custom_components.infection_size import SIZE_GROUPS, size_group
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from tests.reference import dual_sampling as reference

RATIO_OF = {"covid_small": 0.02, "covid_large": 0.2, "cap_small": 0.0005, "cap_large": 0.05}
COUNTS = {"covid_small": 8, "covid_large": 12, "cap_small": 15, "cap_large": 10}


def data_set(counts=COUNTS):
    names = [name for name in SIZE_GROUPS for _ in range(counts.get(name, 0))]
    return [int(name.startswith("covid")) for name in names], [RATIO_OF[name] for name in names]


def groups_drawn(sampler, labels, ratios):
    return Counter(size_group(labels[k], ratios[k]) for k in sampler)


@given(st.lists(st.integers(1, 9), min_size=4, max_size=4))
def test_counts_weights_and_probabilities_are_those_of_the_paper(counts):
    counts = dict(zip(SIZE_GROUPS, counts, strict=True))
    labels, ratios = data_set(counts)
    sampler = SizeBalancedSampler(labels, ratios)
    assert sampler.group_counts == counts
    assert sampler.group_probabilities == pytest.approx(reference.group_probabilities(labels, ratios))
    assert sum(sampler.group_probabilities.values()) == pytest.approx(1)
    assert sampler.group_weights["covid_large"] == sampler.group_weights["cap_small"] == 1
    assert sampler.group_weights["covid_small"] == pytest.approx(counts["covid_large"] / counts["covid_small"])
    assert sampler.group_weights["cap_large"] == pytest.approx(counts["cap_small"] / counts["cap_large"])


def test_groups_are_drawn_with_their_probabilities_and_the_scans_of_a_group_equally_often():
    labels, ratios = data_set()
    sampler = SizeBalancedSampler(labels, ratios, seed=5)
    drawn = Counter()
    for epoch in range(400):
        sampler.set_epoch(epoch)
        drawn.update(sampler)
    total = sum(drawn.values())
    of_group = Counter()
    for index, count in drawn.items():
        of_group[size_group(labels[index], ratios[index])] += count
    expected = [total * sampler.group_probabilities[name] for name in SIZE_GROUPS]
    assert chisquare([of_group[name] for name in SIZE_GROUPS], expected).pvalue > 1e-3
    for name in SIZE_GROUPS:
        scans = [drawn[k] for k in range(len(labels)) if size_group(labels[k], ratios[k]) == name]
        assert chisquare(scans).pvalue > 1e-4
    uniform = [total * COUNTS[name] / len(labels) for name in SIZE_GROUPS]
    assert chisquare([of_group[name] for name in SIZE_GROUPS], uniform).pvalue < 1e-6  # the test tells the two apart


@given(st.integers(0, 2**31), st.integers(0, 100))
@settings(max_examples=20)
def test_the_draws_depend_on_seed_and_epoch(seed, epoch):
    samplers = [SizeBalancedSampler(*data_set(), seed=seed) for _ in range(2)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    torch.manual_seed(seed + 1)
    first, state = list(samplers[0]), torch.get_rng_state()
    assert first == list(samplers[1]) == list(samplers[1])
    assert torch.equal(torch.get_rng_state(), state)
    samplers[1].set_epoch(epoch + 1)
    assert list(samplers[1]) != first
    shifted = SizeBalancedSampler(*data_set(), seed=seed + 1)
    shifted.set_epoch(max(epoch - 1, 0))
    assert list(shifted) != first


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 7])
@given(epoch=st.integers(0, 20))
@settings(max_examples=5)
def test_processes_share_one_sequence_of_draws(replicas, epoch):
    """As with one process; if 45 draws cannot be divided evenly, further draws are added."""
    whole = SizeBalancedSampler(*data_set(), seed=3, num_replicas=1, rank=0)
    parts = [SizeBalancedSampler(*data_set(), seed=3, num_replicas=replicas, rank=rank) for rank in range(replicas)]
    for sampler in (whole, *parts):
        sampler.set_epoch(epoch)
    shares = [list(part) for part in parts]
    assert {len(share) for share in shares} == {len(parts[0])}
    together = [index for place in zip(*shares, strict=True) for index in place]
    assert len(together) == -(-45 // replicas) * replicas  # every process has as many, so the last places are extra
    assert together[:45] == list(whole)


def test_other_thresholds_give_other_groups():
    labels, ratios = [1, 1, 1, 0, 0, 0], [0.01, 0.04, 0.2, 0.0005, 0.004, 0.02]
    assert SizeBalancedSampler(labels, ratios).group_counts == dict(zip(SIZE_GROUPS, (1, 2, 1, 2), strict=True))
    others = SizeBalancedSampler(labels, ratios, covid_small_below=0.1, cap_large_above=0.01)
    assert others.group_counts == dict(zip(SIZE_GROUPS, (2, 1, 2, 1), strict=True))
    with pytest.raises(ValueError, match=r"infection ratio is 3\. Expected"):
        SizeBalancedSampler(labels, ratios, covid_small_below=3)


def test_a_rare_group_that_is_not_rare_is_named_in_a_warning():
    with pytest.warns(
        UserWarning, match=r"covid_small is not rare \(9 scans; covid_large: 6\).* is 0.667 .*--train#sampler#covid_s"
    ):
        SizeBalancedSampler(*data_set({**COUNTS, "covid_small": 9, "covid_large": 6}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SizeBalancedSampler(*data_set())


def test_an_empty_group_is_skipped_with_a_warning():
    labels, ratios = data_set({"covid_large": 6, "cap_small": 4, "cap_large": 2})
    with pytest.warns(UserWarning, match="group covid_small: size-balanced sampling skips this group") as caught:
        sampler = SizeBalancedSampler(labels, ratios)
    assert [warning.filename for warning in caught] == [__file__]
    assert sampler.group_counts["covid_small"] == 0
    assert sampler.group_weights == {"covid_small": 0.0, "covid_large": 1.0, "cap_small": 1.0, "cap_large": 2.0}
    assert set(groups_drawn(sampler, labels, ratios)) == {"covid_large", "cap_small", "cap_large"}


@pytest.mark.parametrize("missing", SIZE_GROUPS)
def test_with_an_empty_group_the_other_group_of_the_class_has_weight_1(missing):
    with pytest.warns(UserWarning, match=missing):
        sampler = SizeBalancedSampler(*data_set({name: 5 for name in SIZE_GROUPS if name != missing}))
    pairs = (("covid_small", "covid_large"), ("cap_small", "cap_large"))
    other = next(pair[1 - pair.index(missing)] for pair in pairs if missing in pair)
    assert sampler.group_weights[other] == 1


def test_scans_of_one_class_are_an_error():
    with pytest.raises(ValueError, match=r"None of 3 scans has label 0 \(cap\)"):
        SizeBalancedSampler([1, 1, 1], [0.1, 0.2, 0.01])


@pytest.mark.parametrize(
    ("labels", "ratios", "message"),
    [
        ([1, 0], [0.1], "2 labels and 1 ratios"),
        ([1, 0], [0.1, 1.2], "Scan 1 of 2: infection ratio is 1.2"),
        ([1, 0], [float("nan"), 0.1], "Scan 0 of 2: infection ratio is nan"),
        ([1, 3], [0.1, 0.1], "Scan 1 of 2: label is 3"),
        ([], [], "None of 0 scans"),
    ],
)
def test_wrong_labels_and_ratios_are_an_error(labels, ratios, message):
    with pytest.raises(ValueError, match=message):
        SizeBalancedSampler(labels, ratios)


def test_numpy_arrays_and_tensors_are_valid():
    labels, ratios = data_set()
    plain = list(SizeBalancedSampler(labels, ratios))
    assert list(SizeBalancedSampler(np.array(labels), np.array(ratios))) == plain
    assert list(SizeBalancedSampler(torch.tensor(labels), torch.tensor(ratios, dtype=torch.float64))) == plain


def test_the_first_process_logs_the_table(caplog):
    with caplog.at_level(logging.INFO):
        samplers = [SizeBalancedSampler(*data_set(), num_replicas=2, rank=rank) for rank in (1, 0)]
    [record], table = caplog.records, samplers[1].table()
    assert record.getMessage() == f"Size-balanced sampling, draws per epoch: 45\n{table}"
    assert "| covid_small | 8 | 1.500 | 0.300 |" in table
    assert table.count("\n") == 5


def test_monais_engines_set_the_epoch():
    """Only for a DistributedSampler in the data loader."""
    from ignite.engine import Events
    from monai.data import DataLoader, Dataset
    from monai.engines import SupervisedTrainer

    sampler = SizeBalancedSampler(*data_set())
    network = torch.nn.Linear(1, 1)
    items = [{"image": torch.zeros(1), "label": torch.zeros(1)} for _ in range(45)]
    trainer = SupervisedTrainer(
        "cpu", 2, DataLoader(Dataset(items), batch_size=45, sampler=sampler), network,
        torch.optim.SGD(network.parameters(), 0.1), torch.nn.MSELoss(),
    )  # fmt: skip
    seen = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(sampler.epoch))
    trainer.run()
    assert seen == [1, 2]


def test_normal_scans_are_one_group_of_weight_1():
    labels, ratios = data_set()
    sampler = SizeBalancedSampler([*labels, *[2] * 7], [*ratios, *[0.0] * 7])
    without = SizeBalancedSampler(labels, ratios)
    assert sampler.group_counts == {**COUNTS, "normal": 7}
    assert sampler.group_weights == {**without.group_weights, "normal": 1.0}
    assert sampler.group_probabilities["normal"] == pytest.approx(1 / sum(sampler.group_weights.values()))
    assert sampler.weights[-7:].tolist() == pytest.approx([sampler.group_probabilities["normal"] / 7] * 7)
    assert "| normal | 7 | 1.000 |" in sampler.table()
    with pytest.raises(ValueError, match=r"Scan 45 of 46: infection ratio is 1.5"):
        SizeBalancedSampler([*labels, 2], [*ratios, 1.5])


@given(st.lists(st.lists(st.integers(0, 6), min_size=4, max_size=4), min_size=2, max_size=4))
def test_sites_with_the_counts_of_all_draw_each_scan_with_the_probability_it_has_in_the_pooled_data(sites):
    """A site may lack a class or a group."""
    site_counts = [dict(zip(SIZE_GROUPS, counts, strict=True)) for counts in sites]
    total = {name: sum(counts[name] for counts in site_counts) for name in SIZE_GROUPS}
    if not (total["covid_small"] + total["covid_large"] and total["cap_small"] + total["cap_large"]):
        return
    pooled = {}
    labels, ratios = data_set(total)
    for label, ratio, weight in zip(labels, ratios, SizeBalancedSampler(labels, ratios).weights, strict=True):
        pooled[size_group(label, ratio)] = weight
    shares = []
    for counts in site_counts:
        labels, ratios = data_set(counts)
        if not labels:
            continue
        sampler = SizeBalancedSampler(labels, ratios, group_counts=total)
        names = [size_group(label, ratio) for label, ratio in zip(labels, ratios, strict=True)]
        assert sampler.weights.tolist() == [pooled[name] for name in names]
        assert len(list(sampler)) == len(labels)
        shares.append(sampler.share)
    assert sum(shares) == pytest.approx(1)


def test_counts_of_all_data_below_those_here_are_an_error():
    labels, ratios = data_set()
    with pytest.raises(ValueError, match=r"group_counts has 3 scans of covid_small, but 8 are here"):
        SizeBalancedSampler(labels, ratios, group_counts={**COUNTS, "covid_small": 3})


def test_counts_are_those_of_the_sampler():
    labels, ratios = data_set()
    assert count_groups(labels, ratios) == COUNTS == SizeBalancedSampler(labels, ratios).group_counts
