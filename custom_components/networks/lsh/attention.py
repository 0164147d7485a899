"""Locality-sensitive hashing attention, linear in time and memory.

Chen et al., Residual Attention U-Net, 2020, Sec. II-C; Kitaev et al., Reformer, ICLR 2020.

    x (B, L, E) -> q, v (B, H, L, D);  k = q / |q|
      hash   h(q) = argmax([qR; -qR])                 (rounds, B, H, L)
      sort   by (bucket, position)
      chunk  m = 2 * bucket_size tokens, and the chunk before
      attend same bucket only, itself last
      combine rounds by their log-sum-exp             (B, H, L, D) -> (B, L, E)

The result is ONE softmax over the union of the tokens that each round allows:

    a_i = sum_{j in P_i} exp(q_i . k_j / sqrt(d_k) - z_i) v_j,   P_i = union over rounds g of P_i^g
    P_i^g = {j : h^g(i) = h^g(j), 0 <= chunk^g(i) - chunk^g(j) <= 1},   logit of j = i lowered by 1e5

Departs from the paper as printed: 1/sqrt(d_k) stands inside the softmax; m = 2 l / n_buckets (printed n_r);
P_i holds all positions, not the earlier ones only; a pair that several rounds attend to is counted in the first of
them instead of corrected by -log of their number (the same sum, fewer exponentials).
"""

import torch
import torch.nn.functional as F
from custom_components.networks.lsh.hashing import hash_vectors, number_of_buckets, random_rotations
from custom_components.networks.lsh.onnx_graph import hash_in_graph, lsh_attention_graph
from custom_components.networks.lsh.rounds import lsh_attention
from torch import nn


class SharedQKAttention(nn.Module):
    """Projections of multi-head self-attention with shared queries and keys; subclasses implement the attention.

    Args:
        embed_dim: channels E of a token.
        num_heads: heads H; must divide ``embed_dim``.

    Raises:
        ValueError: if num_heads does not divide embed_dim.
    """

    def __init__(self, embed_dim: int, num_heads: int = 4) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} must be a positive multiple of num_heads {num_heads}.")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.to_qk = nn.Linear(embed_dim, embed_dim, bias=False)
        self.to_v = nn.Linear(embed_dim, embed_dim, bias=False)
        self.to_out = nn.Linear(embed_dim, embed_dim)
        self.register_load_state_dict_pre_hook(_keep_own_count)

    def split_heads(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, L, E) -> (B, H, L, D)."""
        return tokens.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def merge_heads(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, H, L, D) -> (B, L, E), projected."""
        return self.to_out(tokens.transpose(1, 2).flatten(2))


def _keep_own_count(module: nn.Module, state_dict: dict[str, torch.Tensor], prefix: str, *_: object) -> None:
    """Let LSH and full attention load each other's weights; only LSH attention has a call counter."""
    name = "training_calls"
    if hasattr(module, name):
        state_dict.setdefault(prefix + name, getattr(module, name))
    else:
        state_dict.pop(prefix + name, None)


class FullAttention(SharedQKAttention):
    """Softmax attention of every token to every token, with the parameters of :class:`LSHAttention`.

    Quadratic in time; the token itself counts as in Vaswani et al. 2017 (LSH attention leaves it out).

    Example:
        >>> FullAttention(embed_dim=8, num_heads=2)(torch.zeros(1, 5, 8)).shape
        torch.Size([1, 5, 8])
    """

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Attend: (B, L, E) -> (B, L, E)."""
        queries = self.split_heads(self.to_qk(tokens))
        values = self.split_heads(self.to_v(tokens))
        keys = F.normalize(queries, dim=-1, eps=1e-6)
        return self.merge_heads(F.scaled_dot_product_attention(queries, keys.to(values.dtype), values))


class LSHAttention(SharedQKAttention):
    """Multi-head self-attention in which a token attends to the tokens of its hash bucket.

    In eval mode the hash rotations depend only on ``seed``, so the same input gives the same output. In training new
    rotations are drawn at each call from (seed, number of calls); the count is part of the state dict, so a resumed
    training continues with the same draws. The global random state is neither read nor changed. Queries and hashes
    are computed in float32 even under autocast. Scripted modules always use the rotations of ``seed``. ONNX export
    uses the equivalent graph in ``onnx_graph``.

    Args:
        embed_dim: channels E of a token.
        num_heads: heads H; must divide ``embed_dim``.
        bucket_size: mean number of tokens in a bucket; a chunk holds twice as many.
        num_rounds: hash rounds n_r; more rounds approximate full attention better.
        seed: seed of the rotations.

    Raises:
        ValueError: if a size or count is below 1, or num_heads does not divide embed_dim.

    Example:
        >>> attention = LSHAttention(embed_dim=8, num_heads=2, bucket_size=4).eval()
        >>> tokens = torch.randn(1, 50, 8)
        >>> torch.equal(attention(tokens), attention(tokens))
        True
    """

    eval_rotations: torch.Tensor
    training_calls: torch.Tensor

    def __init__(
        self, embed_dim: int, num_heads: int = 4, bucket_size: int = 64, num_rounds: int = 4, seed: int = 0
    ) -> None:
        super().__init__(embed_dim, num_heads)
        if bucket_size < 1 or num_rounds < 1:
            raise ValueError(f"bucket_size {bucket_size} and num_rounds {num_rounds} must be at least 1.")
        self.bucket_size, self.num_rounds, self.seed = bucket_size, num_rounds, seed
        self.register_buffer("eval_rotations", random_rotations(num_rounds, self.head_dim, seed), persistent=False)
        self.register_buffer("training_calls", torch.zeros((), dtype=torch.int64))

    def forward(self, tokens: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        """Attend.

        Args:
            tokens: (B, L, E), any L.
            padding: boolean (B, L), True where a token is padding.

        Returns:
            (B, L, E).

        Raises:
            ValueError: if the shape is wrong.
        """
        if tokens.dim() != 3 or tokens.shape[-1] != self.embed_dim:
            raise ValueError(f"Expected tokens of shape (batch, length, {self.embed_dim}), got {list(tokens.shape)}.")
        queries = self.split_heads(self.project_queries(tokens))
        values = self.split_heads(self.to_v(tokens))
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript skips the branch only if this condition stands alone
            if torch.onnx.is_in_onnx_export() and padding is None:
                return self.merge_heads(self.attend_in_graph(queries, values))
        buckets = self.hash_tokens(queries.detach(), padding)
        attended = self.attend_tokens(queries, values, buckets, padding)
        return self.merge_heads(attended)

    def attend_tokens(
        self, queries: torch.Tensor, values: torch.Tensor, buckets: torch.Tensor, padding: torch.Tensor | None
    ) -> torch.Tensor:
        """Attention in the precision of the values; float32 on a CPU, where half precision is slower."""
        half_on_cpu = not values.is_cuda and (values.dtype == torch.bfloat16 or values.dtype == torch.float16)
        precision = torch.float32 if half_on_cpu else values.dtype
        queries, length = queries.to(precision), 2 * self.bucket_size
        if torch.jit.is_scripting():
            return lsh_attention(queries, values.to(precision), buckets, length, padding)
        with torch.autocast(values.device.type, enabled=False):
            return lsh_attention(queries, values.to(precision), buckets, length, padding)

    @torch.jit.unused
    def attend_in_graph(self, queries: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """The same attention in ONNX operations."""
        buckets = hash_in_graph(queries, self.eval_rotations, self.bucket_size)
        return lsh_attention_graph(queries, values, buckets, 2 * self.bucket_size)

    def project_queries(self, tokens: torch.Tensor) -> torch.Tensor:
        """Shared queries and keys (B, L, E), at least float32 even under autocast, because they define the buckets."""
        precision = torch.float64 if tokens.dtype == torch.float64 else torch.float32
        if torch.jit.is_scripting():
            return self.to_qk(tokens).to(precision)
        with torch.autocast(tokens.device.type, enabled=False):
            return F.linear(tokens.to(precision), self.to_qk.weight.to(precision))

    def hash_tokens(self, queries: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        """Buckets (rounds, B, H, L) of queries (B, H, L, D); the number of buckets depends on the unpadded length."""
        rotations = self.rotations()
        length, batch = queries.shape[2], queries.shape[0]
        if padding is None:
            return hash_vectors(queries, rotations, number_of_buckets(length, self.bucket_size))
        samples = []
        for sample in range(batch):
            real = length - int(padding[sample].sum())
            buckets = number_of_buckets(real, self.bucket_size)
            samples.append(hash_vectors(queries[sample : sample + 1], rotations, buckets))
        return torch.cat(samples, dim=1)

    def rotations(self) -> torch.Tensor:
        """Rotations of this call: fixed by the seed, or the next draw in training."""
        if self.training and not torch.jit.is_scripting():
            return self._next_rotations()
        return self.eval_rotations

    @torch.jit.unused
    def _next_rotations(self) -> torch.Tensor:
        self.training_calls += 1
        draw = self.seed * 1_000_003 + int(self.training_calls)
        return random_rotations(self.num_rounds, self.head_dim, draw)
