"""Mistakes in the networks of both papers."""

# ruff: noqa: E501 - a mutation is a line, and is seen as one

from tests.mutations.mutation import mutations_of

ATTENTION_RESNET = mutations_of(
    "networks/attention_resnet.py",
    "networks/test_attention_resnet.py",
    ("the last stage has stride 2", "layer4_stride: int = 1,", "layer4_stride: int = 2,"),
    ("blocks of another ResNet", "layers: Sequence[int] = (3, 4, 6, 3),", "layers: Sequence[int] = (3, 4, 3, 6),"),
    ("an unstrided stem", "conv1_t_stride: int = 2,", "conv1_t_stride: int = 1,"),
    ("no max-pool", "if not self.no_max_pool:", "if self.no_max_pool:"),
    ("activation before normalisation", "self.act(self.bn1(self.conv1(x)))", "self.bn1(self.act(self.conv1(x)))"),
    ("global maximum for the average", "self.avgpool(features).flatten(1)", "features.amax(dim=(2, 3, 4))"),
    (
        "the soft mask is shown for the attention",
        "attention = self.online_attention.attention(features,",
        "attention = self.online_attention(features,",
    ),
)

ONLINE_ATTENTION = mutations_of(
    "networks/online_attention.py",
    "networks/test_online_attention.py",
    ("the weight gets a gradient", "weight.detach().view(", "weight.view("),
    (
        "no ReLU in Eq. 1",
        "torch.relu((features * kernel).sum(dim=1, keepdim=True))",
        "(features * kernel).sum(dim=1, keepdim=True)",
    ),
    ("minimum of the batch", "activation.amin(dim=(1, 2, 3, 4)", "activation.amin(dim=(0, 1, 2, 3, 4)"),
    ("maximum of the batch", "activation.amax(dim=(1, 2, 3, 4)", "activation.amax(dim=(0, 1, 2, 3, 4)"),
    ("the minimum is left in", "normalized = (activation - low)", "normalized = activation"),
    ("corners aligned", "align_corners=False", "align_corners=True"),
    ("beta outside of the slope", "alpha * (attention - beta)", "alpha * attention - beta"),
    (
        "another beta in the soft mask",
        "attention: torch.Tensor, alpha: float = 100.0, beta: float = 0.4",
        "attention: torch.Tensor, alpha: float = 100.0, beta: float = 0.5",
    ),
    (
        "another alpha in the module",
        "self, alpha: float = 100.0, beta: float = 0.4",
        "self, alpha: float = 10.0, beta: float = 0.4",
    ),
) + mutations_of(
    "networks/online_attention.py",
    "numerics/test_attention.py",
    ("the rounding of a constant map is attention", "LEAST_CONTRAST = 1e-5", "LEAST_CONTRAST = 0.0"),
    ("a faint map has an infinite gradient", "LEAST_EXTENT = 1e-15", "LEAST_EXTENT = 0.0"),
)

DUAL_SAMPLING = mutations_of(
    "networks/dual_sampling.py",
    "networks/test_dual_sampling.py",
    ("the lower threshold is outside", "ratio < thresholds[0]", "ratio <= thresholds[0]"),
    ("the upper threshold is outside", "ratio > thresholds[1]", "ratio >= thresholds[1]"),
    (
        "weights exchanged",
        "torch.full_like(ratio, weights[0]), torch.full_like(ratio, weights[1])",
        "torch.full_like(ratio, weights[1]), torch.full_like(ratio, weights[0])",
    ),
    (
        "branches exchanged",
        "_log_add_exp(log_w + _log_sigmoid(logit_us), log_rest + _log_sigmoid(logit_ss))",
        "_log_add_exp(log_w + _log_sigmoid(logit_ss), log_rest + _log_sigmoid(logit_us))",
    ),
    ("logits averaged", "return positive - negative", "return weight * logit_us + (1 - weight) * logit_ss"),
    ("an unknown ratio has a verdict", "return torch.where(torch.isnan(ratio), ratio, weight)", "return weight"),
    ("the threshold itself is CAP", ">= self.decision_threshold", "> self.decision_threshold"),
    ("other weights", "PAPER_WEIGHTS = (0.35, 0.96)", "PAPER_WEIGHTS = (0.96, 0.35)"),
    ("other thresholds", "PAPER_THRESHOLDS = (CAP", "PAPER_THRESHOLDS = (5 * CAP"),
    ("attention of the other branch", '"attention_ss": ss["attention"]', '"attention_ss": us["attention"]'),
)

UNET = mutations_of(
    "networks/residual_attention_unet.py",
    "networks/test_residual_attention_unet.py",
    ("average pooling", "Pool[Pool.MAX, spatial_dims]", "Pool[Pool.AVG, spatial_dims]"),
    (
        "odd levels cropped on the other side",
        "x = x.narrow(axis, 0, skip.shape[axis])",
        "x = x.narrow(axis, x.shape[axis] - skip.shape[axis], skip.shape[axis])",
    ),
    ("the skip behind", "torch.cat([skip, x], dim=1)", "torch.cat([x, skip], dim=1)"),
    ("attention without x", "x = x + self.attention(tokens)", "x = self.attention(tokens)"),
    ("pixels column by column", "tokens = x.flatten(2)", "tokens = x.transpose(2, 3).flatten(2)"),
    (
        "no shortcut",
        "self.restore(self.grouped(self.reduce(x))) + self.shortcut(x)",
        "self.restore(self.grouped(self.reduce(x)))",
    ),
    ("one path", "out_channels, 3, groups=cardinality)", "out_channels, 3, groups=1)"),
    (
        "ReLU before the sum",
        "self.restore = _convolution(spatial_dims, out_channels, out_channels, 1, relu=False)",
        "self.restore = _convolution(spatial_dims, out_channels, out_channels, 1)",
    ),
    (
        "normalisation over all channels",
        'norm = ("group", {"num_groups": out_channels})',
        'norm = ("group", {"num_groups": 1})',
    ),
    ("no stem", "stem=level == 0", "stem=False"),
    ("another bucket size by default", "bucket_size: int = 32,", "bucket_size: int = 64,"),
    ("more rounds by default", "num_rounds: int = 2,", "num_rounds: int = 4,"),
    ("attention begins at random", "if block is not None and zero_init_attention:", "if False:"),
)

VBNET = mutations_of(
    "networks/vbnet.py",
    "networks/test_vbnet.py",
    ("no identity", "(x + self.layers(x)).relu_()", "self.layers(x).relu_()"),
    ("the skip first", "torch.cat([self.up(x), skip], dim=1)", "torch.cat([skip, self.up(x)], dim=1)"),
    ("padded in front", "padding += [0, -length % self.stride]", "padding += [-length % self.stride, 0]"),
    (
        "cropped on the other side",
        "x = x.narrow(axis + 2, 0, length)",
        "x = x.narrow(axis + 2, x.shape[axis + 2] - length, length)",
    ),
    ("a wider bottleneck", "few = channels // ratio", "few = channels // 2"),
    (
        "ReLU at the end of a bottleneck",
        "_convolution(spatial_dims, few, channels, 1, norm),",
        '_convolution(spatial_dims, few, channels, 1, norm, act="relu"),',
    ),
    (
        "no ReLU in a block",
        "layers += [_layer(spatial_dims, channels, ratio, norm), nn.ReLU(inplace=True)]",
        "layers += [_layer(spatial_dims, channels, ratio, norm), nn.Identity()]",
    ),
    ("batch normalisation by default", 'norm: str = "instance",', 'norm: str = "batch",'),
)

LSH = (
    mutations_of(
        "networks/lsh/attention.py",
        "networks/lsh/test_attention.py networks/test_residual_attention_unet.py",
        ("chunks of one bucket", "queries.to(precision), 2 * self.bucket_size", "queries.to(precision), self.bucket_size"),
        ("full attention to keys of any length", "keys = F.normalize(queries, dim=-1, eps=1e-6)", "keys = queries"),
        ("padding counts for the buckets", "real = length - int(padding[sample].sum())", "real = length"),
        ("each training step draws the same", "self.training_calls += 1", "self.training_calls += 0"),
        ("evaluation draws anew", "if self.training and not torch.jit.is_scripting():", "if not torch.jit.is_scripting():"),
    )
    + mutations_of(
        "networks/lsh/hashing.py",
        "networks/lsh/test_attention.py networks/lsh/test_onnx_graph.py",
        ("twice the buckets", "2 * max(1, length // (2 * bucket_size))", "2 * max(1, length // bucket_size)"),
        ("the last of equals", "upper = highest >= -lowest", "upper = highest > -lowest"),
        (
            "one sign only",
            "torch.where(upper.squeeze(-2), columns - left, 2 * columns - left)",
            "columns - left",
        ),
        ("the second digit overlaps the first", "bucket = bucket * second + _digit(", "bucket = bucket + _digit("),
        ("both digits of one rotation", "table[index, 1, :, : second // 2]", "table[index, 0, :, : second // 2]"),
        ("all rounds hash alike", "table[index, 0, :, : first // 2]", "table[0, 0, :, : first // 2]"),
    )
    + mutations_of(
        "networks/lsh/steps.py",
        "networks/lsh/test_attention.py",
        ("another token is lowered for itself", "logits.diagonal(queries.shape[1], 1, 2)", "logits.diagonal(0, 1, 2)"),
        ("a token counts as any other", "SELF_PENALTY = 1e5", "SELF_PENALTY = 0.0"),
        ("codes of neighbouring buckets meet", "add_(sorted_buckets, alpha=2)", "add_(sorted_buckets, alpha=1)"),
        ("pairs of two rounds count twice", "abs_().lt_(1.0), alpha=hidden_logit", "abs_().lt_(1.0), alpha=0.0"),
        ("pairs that never met are hidden", "apart.abs_().lt_(1.0)", "apart.abs_().lt_(2.0)"),
        ("on a GPU: half of the pairs met", "difference.bitwise_and_(-2) == 0", "difference == 0"),
        ("the strongest round alone", "total = torch.logaddexp(", "total = torch.maximum("),
    )
    + mutations_of(
        "networks/lsh/rounds.py",
        "networks/lsh/test_attention.py",
        ("no 1/sqrt(d)", "keys = queries * (dim**-0.5 / torch", "keys = queries * (1.0 / torch"),
        (
            "the first chunk attends to itself twice",
            "filler = torch.full_like(buckets[index, :chunk_length], -1)",
            "filler = buckets[index, :chunk_length]",
        ),
        (
            "the gradient of a softmax that is not normalised",
            "grad_weights.sub_(own_delta).mul_(weights)",
            "grad_weights.mul_(weights)",
        ),
        (
            "no gradient in the chunk before",
            "chunks[1:count] += windows[1:, :length]",
            "chunks[1:count] += 0 * windows[1:, :length]",
        ),
        ("padding is in the first bucket", "masked_fill(padding[:, None, :], last)", "masked_fill(padding[:, None, :], 0)"),
        ("heads and samples share buckets", "start = (last + 2) * torch.arange", "start = 0 * torch.arange"),
    )
    + mutations_of(
        "networks/lsh/onnx_graph.py",
        "networks/lsh/test_onnx_graph.py",
        ("a token counts as any other", "logits = logits - SELF_PENALTY * itself", "logits = logits - 0 * itself"),
        ("rounds weigh alike", "torch.softmax(torch.stack(sums), dim=0)", "torch.softmax(0 * torch.stack(sums), dim=0)"),
        ("padding sorts first", "value=MAX_DIRECT_BUCKETS**2)", "value=-1)"),
    )
)  # fmt: skip

NETWORKS = ATTENTION_RESNET + ONLINE_ATTENTION + DUAL_SAMPLING + UNET + VBNET + LSH
