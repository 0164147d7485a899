"""Mistakes in losses, in groups by the size of the infection, and in what is drawn."""

# ruff: noqa: E501 - a mutation is a line, and is seen as one

from tests.mutations.mutation import mutations_of

LOSSES = (
    mutations_of(
        "losses/normalized_mse.py",
        "losses/test_normalized_mse.py",
        ("absolute error", "(attention - mask).square()", "(attention - mask).abs()"),
        ("not over the size of both", "attention.sum(dim=axes) + mask.sum(dim=axes)", "2 * mask.sum(dim=axes)"),
        ("one fraction of the batch", "tuple(range(1, attention.ndim))", "tuple(range(0, attention.ndim))"),
        ("mean over all scans", "chosen.sum().clamp(min=1)", "len(chosen)"),
        (
            "sums in half precision",
            "exact = torch.float64 if attention.dtype == torch.float64 else torch.float32",
            "exact = attention.dtype",
        ),
        ("an empty scan has no number", "torch.where(total > EMPTY, total, torch.ones_like(total))", "total"),
    )
    + mutations_of(
        "losses/attention_guided.py",
        "losses/test_normalized_mse.py",
        ("attention of CAP counts too", 'target["infection"], label == COVID)', 'target["infection"])'),
        ("attention of CAP alone counts", 'target["infection"], label == COVID)', 'target["infection"], label != COVID)'),
        ("attention of normal scans counts", 'target["infection"], label == COVID)', 'target["infection"], label)'),
        ("another lambda", "attention_weight: float = 0.5", "attention_weight: float = 1.0"),
        ("lambda is not applied", "classification + self.attention_weight * attention", "classification + attention"),
    )
    + mutations_of(
        "losses/partial_label.py",
        "losses/test_partial_label.py",
        ("largest weight of a set", ".amin(dim=1, keepdim=True) * counted", ".nan_to_num(posinf=0).amax(dim=1, keepdim=True) * counted"),
        ("pixels of any class count", "counted = (sets != (1 << classes) - 1)", "counted = (sets != 0)"),
        ("uncertain pixels count in the Dice", "known = (inside | outside)", "known = (inside | ~inside)"),
        ("most likely class of a set", "-torch.inf).logsumexp(dim=1, keepdim=True)", "-torch.inf).amax(dim=1, keepdim=True)"),
        ("classes outside of the group", "if group >> index & 1]", "if not group >> index & 1]"),
        ("Dice terms added up", "torch.stack(terms).mean()", "torch.stack(terms).sum()"),
    )
    + mutations_of(
        "losses/pixel_cross_entropy.py",
        "losses/test_pixel_cross_entropy.py",
        ("ignored pixels in the mean", "total = weights.sum()", "total = weights.new_tensor(float(weights.numel()))"),
        ("ignored pixels weigh as background", "self.weight.to(logits)[classes] * counted", "self.weight.to(logits)[classes]"),
        ("nothing against wrong classes", "return against_all - logits.gather(1, classes)", "return F.softplus(-logits).gather(1, classes)"),
        ("softmax over the batch", "F.log_softmax(logits, dim=1)", "F.log_softmax(logits, dim=0)"),
        ("half precision stays", "logits = logits if logits.dtype == torch.float64 else logits.float()", "logits = logits"),
    )
    + mutations_of(
        "losses/dice_cross_entropy.py",
        "losses/test_dice_cross_entropy.py",
        ("background is a class", "include_background=False", "include_background=True"),
        ("Dice of each slice", "batch=True", "batch=False"),
        ("ignored pixels are predicted", "self.dice(probabilities * counted, truth * counted)", "self.dice(probabilities, truth * counted)"),
        ("hardly smoothed", "SMOOTH = 1.0", "SMOOTH = 1e-5"),
    )
)  # fmt: skip

SIZES = (
    mutations_of(
        "infection_size.py",
        "test_infection_size.py",
        ("3.0 % of COVID-19 is small", "ratio < covid_small_below", "ratio <= covid_small_below"),
        ("0.1 % of CAP is large", "ratio > cap_large_above", "ratio >= cap_large_above"),
        ("0.5 % is in the lower band", "if ratio < low else", "if ratio <= low else"),
        ("3.0 % is in the upper band", "if ratio <= high else", "if ratio < high else"),
        ("bands of the groups", "BAND_BORDERS = (0.005, 0.030)", "BAND_BORDERS = (0.001, 0.030)"),
        ("a lung of infection is no ratio", "if not 0 <= ratio <= 1:", "if not 0 <= ratio < 1:"),
    )
    + mutations_of(
        "data/size_balanced_sampler.py",
        "data/test_size_balanced_sampler.py",
        ("the weight of a group upside down", "counts[common] / counts[rare] if", "counts[rare] / counts[common] if"),
        ("a scan has the probability of its group", "self.group_probabilities[name] / self.group_counts[name]", "self.group_probabilities[name]"),
        ("rare is small CAP", '("cap_large", "cap_small")', '("cap_small", "cap_large")'),
        ("without replacement", "replacement=True", "replacement=False"),
        ("all processes draw the same scans", "draw[self.rank : self.total_size : self.num_replicas]", "draw[0 : self.total_size : self.num_replicas]"),
        ("each epoch draws the same", "stream_seed(self.seed, self.epoch)", "stream_seed(self.seed)"),
    )
    + mutations_of(
        "data/seeded_draws.py",
        "data/test_seeded_draws.py",
        ("each epoch changes a case alike", "stream_seed(self.seed, epoch, place)", "stream_seed(self.seed, place)"),
        ("the epoch is not passed on", "first = self.epoch * len(self.dataset)", "first = 0 * len(self.dataset)"),
    )
    + mutations_of(
        "data/mixed_draws.py",
        "data/test_mixed_draws.py",
        ("data sets by equal shares", "p=list(self.probabilities.values())", "p=None"),
    )
)  # fmt: skip

TRAINING = LOSSES + SIZES
