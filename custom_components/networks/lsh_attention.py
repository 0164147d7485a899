"""Locality-sensitive hashing attention, linear in time and memory.

Chen et al., Residual Attention U-Net, 2020, Sec. II-C; Kitaev et al., Reformer, ICLR 2020.

    x (B, L, E) -> q, v (B, H, L, D);  k = q / |q|
      hash   h(q) = argmax([qR; -qR])                 (rounds, B, H, L)
      sort   by (bucket, position)
      chunk  m = 2 * bucket_size tokens, and the chunk before
      attend same bucket only, itself last
      combine rounds by their log-sum-exp             (B, H, L, D) -> (B, L, E)

What comes out is ONE softmax over the union of what the rounds let a token attend to:

    a_i = sum_{j in P_i} exp(q_i . k_j / sqrt(d_k) - z_i) v_j,   P_i = union over rounds g of P_i^g
    P_i^g = {j : h^g(i) = h^g(j), 0 <= chunk^g(i) - chunk^g(j) <= 1},   logit of j = i lowered by 1e5

Departs from the paper as printed: 1/sqrt(d_k) stands inside the softmax; m = 2 l / n_buckets (printed n_r);
P_i holds all positions, not the earlier ones only; a pair that several rounds attend to is counted in the first of
them instead of corrected by -log of their number (the same sum, fewer exponentials).
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from custom_components.networks.lsh_hashing import (
    hash_vectors,
    inverse_order,
    number_of_buckets,
    random_rotations,
    sort_by_bucket,
)

SELF_PENALTY = 1e5
"""What the logit of a token with itself is lowered by: it attends to itself only when alone."""

HIDDEN_LOGIT = -1e30
"""Finite stand-in for minus infinity: a token that sees nothing new in a round gets weight 0 there, not NaN."""


def chunk(tokens: torch.Tensor, chunk_length: int) -> torch.Tensor:
    """Cut sorted tokens into chunks: (T, ...) -> (T / m, m, ...)."""
    return tokens.unflatten(0, (-1, chunk_length))


def chunk_with_previous(tokens: torch.Tensor, chunk_length: int) -> torch.Tensor:
    """Each chunk together with the one before it, as a view.

    Args:
        tokens: (m + T, D) sorted tokens behind one chunk of filler, which is what the first chunk looks back to.
        chunk_length: m.

    Returns:
        (T / m, 2 m, D), overlapping windows.
    """
    return tokens.unfold(0, 2 * chunk_length, chunk_length).movedim(-1, 1)


def meeting_code(buckets: torch.Tensor, ranks: torch.Tensor, chunk_length: int) -> torch.Tensor:
    """One integer a token that tells whether a round lets i attend to j: ``code_i - code_j in {0, 1}``.

    code = chunk + 2 * bucket. Within a bucket the difference is that of the chunks; tokens of a higher bucket are
    never in an earlier chunk, so across buckets it is at least 2 or at most -2.

    Args:
        buckets: (..., L) integers.
        ranks: (..., L) place of each token in the sorted order.
        chunk_length: m.

    Returns:
        (..., L), int16 where the codes fit (they do up to some 800,000 tokens at a bucket size of 64), else int32.
    """
    code = torch.div(ranks, chunk_length, rounding_mode="floor") + 2 * buckets
    fits = buckets.shape[-1] // chunk_length + 2 * int(buckets.max()) < 32000
    return code.to(torch.int16 if fits else torch.int32)


def hidden_pairs(
    bucket_q: torch.Tensor, bucket_k: torch.Tensor, earlier_q: torch.Tensor, earlier_k: torch.Tensor
) -> torch.Tensor:
    """Pairs that this round must not count: other buckets, and pairs that an earlier round has counted.

    Args:
        bucket_q: (n, m), buckets of this round.
        bucket_k: (n, 2 m), the same of the keys.
        earlier_q: (g, n, m), meeting codes of the g earlier rounds.
        earlier_k: (g, n, 2 m), the same of the keys.

    Returns:
        Boolean (n, m, 2 m).
    """
    hidden = bucket_q.unsqueeze(-1) != bucket_k.unsqueeze(-2)
    for index in range(earlier_q.shape[0]):
        difference = earlier_q[index].unsqueeze(-1) - earlier_k[index].unsqueeze(-2)
        hidden |= difference.bitwise_and_(-2) == 0  # difference is 0 or 1: met before
    return hidden


def pair_logits(
    queries: torch.Tensor, keys: torch.Tensor, lower_self: bool, self_penalty: float = SELF_PENALTY
) -> torch.Tensor:
    """Logits of all pairs of a block of chunks, the token itself lowered by 1e5.

    Args:
        queries: (n, m, D), already divided by sqrt(d_k).
        keys: (n, 2 m, D) of unit length.
        lower_self: in the first round; later rounds have the token itself among the pairs already counted.
        self_penalty: the constant (a scripted function cannot look it up itself).

    Returns:
        (n, m, 2 m), at least float32.
    """
    logits = torch.bmm(queries, keys.transpose(1, 2))
    if logits.dtype == torch.float16 or logits.dtype == torch.bfloat16:
        logits = logits.float()
    if lower_self:
        logits.diagonal(queries.shape[1], 1, 2).sub_(self_penalty)
    return logits


def attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    hidden: torch.Tensor,
    lower_self: bool,
    hidden_logit: float = HIDDEN_LOGIT,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention of each chunk over itself and the chunk before.

    Args:
        queries: (n, m, D).
        keys: (n, 2 m, D).
        values: (n, 2 m, D).
        hidden: boolean (n, m, 2 m).
        lower_self: see :func:`pair_logits`.
        hidden_logit: the constant.

    Returns:
        Output (n, m, D) and the log-sum-exp z of its logits (n, m).
    """
    logits = pair_logits(queries, keys, lower_self).masked_fill_(hidden, hidden_logit)
    weights = torch.softmax(logits, dim=-1)
    logsumexp = logits.amax(dim=-1) - weights.amax(dim=-1).log()
    return torch.bmm(weights.to(values.dtype), values).to(logits.dtype), logsumexp


def combine(
    output: torch.Tensor, logsumexp: torch.Tensor, round_output: torch.Tensor, round_logsumexp: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Join two attention results over disjoint keys: ``sum_g exp(z_g - z) a_g`` with ``z = log sum_g exp(z_g)``.

    Args:
        output: (T, D) so far.
        logsumexp: (T,) so far.
        round_output: (T, D) of one more round.
        round_logsumexp: (T,) of one more round.

    Returns:
        The joint output (T, D) and log-sum-exp (T,).
    """
    total = torch.logaddexp(logsumexp, round_logsumexp)
    before = (logsumexp - total).exp().unsqueeze(-1)
    added = (round_logsumexp - total).exp().unsqueeze(-1)
    return output * before + round_output * added, total


def _chunks_per_block(chunk_length: int, on_gpu: bool) -> int:
    """So many chunks at once that a block of logits stays in a core's cache (CPU) or fills the device (GPU)."""
    budget = 64 * 1024 * 1024 if on_gpu else 512 * 1024
    return max(1, budget // (2 * chunk_length * chunk_length))


def _round_tables(
    order: torch.Tensor, buckets: torch.Tensor, codes: torch.Tensor, index: int, chunk_length: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of one round: the order behind a filler chunk, and sorted, chunked buckets and earlier codes of both sides."""
    padded = torch.cat([order[index, :chunk_length], order[index]])
    bucket = buckets[index][padded]
    bucket[:chunk_length] = -1  # the filler chunk is nobody's bucket
    earlier = codes[:index, padded]
    return (
        padded,
        bucket[chunk_length:].unflatten(0, (-1, chunk_length)),
        bucket.unfold(0, 2 * chunk_length, chunk_length),
        earlier[:, chunk_length:].unflatten(1, (-1, chunk_length)),
        earlier.unfold(1, 2 * chunk_length, chunk_length),
    )


def lsh_attention_rounds(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    order: torch.Tensor,
    buckets: torch.Tensor,
    codes: torch.Tensor,
    chunk_length: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """All rounds of LSH attention over flat tokens, block by block.

    Args:
        queries: (T, D); T = sequences x padded length, a multiple of ``chunk_length``.
        keys: (T, D).
        values: (T, D).
        order: (rounds, T) sorted order of each sequence, as places in the flat tokens.
        buckets: (rounds, T) buckets in token order, different for neighbouring sequences.
        codes: (rounds, T) meeting codes in token order.
        chunk_length: m.

    Returns:
        Output (T, D) and log-sum-exp (T,).
    """
    block = _chunks_per_block(chunk_length, queries.is_cuda)
    output = torch.zeros_like(values)
    logsumexp = torch.zeros(values.shape[0], dtype=values.dtype, device=values.device)
    for index in range(order.shape[0]):
        padded, bucket_q, bucket_k, earlier_q, earlier_k = _round_tables(order, buckets, codes, index, chunk_length)
        sorted_q = chunk(queries.index_select(0, padded[chunk_length:]), chunk_length)
        sorted_k = chunk_with_previous(keys.index_select(0, padded), chunk_length)
        sorted_v = chunk_with_previous(values.index_select(0, padded), chunk_length)
        outputs, sums = [], []
        for start in range(0, sorted_q.shape[0], block):
            part = slice(start, start + block)
            hidden = hidden_pairs(bucket_q[part], bucket_k[part], earlier_q[:, part], earlier_k[:, part])
            out, z = attend(sorted_q[part], sorted_k[part], sorted_v[part], hidden, index == 0)
            outputs.append(out)
            sums.append(z)
        ranks = inverse_order(order[index])
        round_output = torch.cat(outputs).flatten(0, 1).index_select(0, ranks)
        round_sum = torch.cat(sums).flatten()[ranks]
        if index == 0:
            output, logsumexp = round_output, round_sum
        else:
            output, logsumexp = combine(output, logsumexp, round_output, round_sum)
    return output, logsumexp


class _LSHAttentionFunction(torch.autograd.Function):
    """LSH attention that keeps nothing of size (T, m) for the backward pass: it computes the weights again.

    With the joint log-sum-exp z the recomputed ``p_ij = exp(logit_ij - z_i)`` are the weights of the one softmax over
    the union, so each round's block gives its share of the exact gradient:
    ``dV += P^T dA``, ``dS = P * (dA V^T - sum(dA * A))``, ``dQ += dS K``, ``dK += dS^T Q``.
    """

    @staticmethod
    def forward(ctx, queries, keys, values, order, buckets, codes, chunk_length):  # type: ignore[no-untyped-def]
        output, logsumexp = lsh_attention_rounds(queries, keys, values, order, buckets, codes, chunk_length)
        ctx.save_for_backward(queries, keys, values, order, buckets, codes, output, logsumexp)
        ctx.chunk_length = chunk_length
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):  # type: ignore[no-untyped-def]
        queries, keys, values, order, buckets, codes, output, logsumexp = ctx.saved_tensors
        delta = (grad_output * output).sum(-1)
        grads = [torch.zeros_like(tensor, dtype=output.dtype) for tensor in (queries, keys, values)]
        for index in range(order.shape[0]):
            _add_round_gradients(
                grads, queries, keys, values, grad_output.to(values.dtype), delta, logsumexp,
                order, buckets, codes, index, ctx.chunk_length,
            )  # fmt: skip
        return (*(grad.to(queries.dtype) for grad in grads), None, None, None, None)


def _add_round_gradients(  # type: ignore[no-untyped-def]
    grads, queries, keys, values, grad_output, delta, logsumexp, order, buckets, codes, index, chunk_length
) -> None:
    """Add one round's share to the gradients of queries, keys and values, in place."""
    tables = _round_tables(order, buckets, codes, index, chunk_length)
    padded, bucket_q, bucket_k, earlier_q, earlier_k = tables
    own = padded[chunk_length:]
    sorted_q = chunk(queries.index_select(0, own), chunk_length)
    sorted_grad = chunk(grad_output.index_select(0, own), chunk_length)
    sorted_z, sorted_delta = chunk(logsumexp[own], chunk_length), chunk(delta[own], chunk_length)
    sorted_k = chunk_with_previous(keys.index_select(0, padded), chunk_length)
    sorted_v = chunk_with_previous(values.index_select(0, padded), chunk_length)
    grad_q = torch.empty(sorted_q.shape, dtype=delta.dtype, device=delta.device)
    grad_k = torch.zeros(len(sorted_q) + 1, *sorted_q.shape[1:], dtype=delta.dtype, device=delta.device)
    grad_v = torch.zeros_like(grad_k)
    block = _chunks_per_block(chunk_length, queries.is_cuda)
    for start in range(0, len(sorted_q), block):
        part = slice(start, start + block)
        hidden = hidden_pairs(bucket_q[part], bucket_k[part], earlier_q[:, part], earlier_k[:, part])
        weights = pair_logits(sorted_q[part], sorted_k[part], index == 0)
        weights = weights.sub_(sorted_z[part].unsqueeze(-1)).exp_().masked_fill_(hidden, 0.0)
        grad_weights = torch.bmm(sorted_grad[part], sorted_v[part].transpose(1, 2)).to(weights.dtype)
        grad_logits = grad_weights.sub_(sorted_delta[part].unsqueeze(-1)).mul_(weights).to(queries.dtype)
        grad_q[part] = torch.bmm(grad_logits, sorted_k[part])
        _add_windows(grad_k[start:], torch.bmm(grad_logits.transpose(1, 2), sorted_q[part]))
        _add_windows(grad_v[start:], torch.bmm(weights.to(values.dtype).transpose(1, 2), sorted_grad[part]))
    ranks = inverse_order(order[index])
    for grad, sorted_grads in zip(grads, (grad_q, grad_k[1:], grad_v[1:]), strict=True):
        grad += sorted_grads.flatten(0, 1).index_select(0, ranks)


def _add_windows(chunks: torch.Tensor, windows: torch.Tensor) -> None:
    """Add (n, 2 m, D) windows to the (>= n + 1, m, D) chunks they look at: the first half to the chunk before."""
    count, length = windows.shape[0], chunks.shape[1]
    chunks[:count] += windows[:, :length]
    chunks[1 : count + 1] += windows[:, length:]


def lsh_attention(
    queries: torch.Tensor,
    values: torch.Tensor,
    buckets: torch.Tensor,
    chunk_length: int,
    padding: torch.Tensor | None = None,
) -> torch.Tensor:
    """LSH attention with shared queries and keys, ``k = q / |q|``, for given buckets.

    Gradients reach queries and values, never the buckets. Time and memory are linear in the length.

    Args:
        queries: (B, H, L, D).
        values: (B, H, L, D).
        buckets: integers (rounds, B, H, L) from :func:`hash_vectors`.
        chunk_length: tokens in a chunk, m.
        padding: boolean (B, L), True where a token is padding: it changes no other token, and its output is 0.

    Returns:
        (B, H, L, D) in the type of ``values``.
    """
    batch, heads, length, dim = queries.shape
    spare = -length % chunk_length
    sequences, padded_length = batch * heads, length + spare
    buckets = F.pad(buckets.flatten(1, 2), [0, spare], value=-1.0)
    if padding is not None:
        outside = F.pad(padding, [0, spare], value=1.0).repeat_interleave(heads, dim=0)
        buckets = buckets.masked_fill(outside.unsqueeze(0), -1)
    buckets = torch.where(buckets < 0, buckets.max() + 1, buckets)  # padding sorts last
    order = sort_by_bucket(buckets)
    codes = meeting_code(buckets, inverse_order(order), chunk_length)
    start = torch.arange(sequences, device=order.device).unsqueeze(-1)
    flat_order = (order + start * padded_length).flatten(1)
    flat_buckets = (2 * buckets + start % 2).to(codes.dtype).flatten(1)  # neighbouring sequences never meet
    keys = F.normalize(queries, dim=-1, eps=1e-6)
    tokens = [
        F.pad(tensor, [0, 0, 0, spare]).reshape(sequences * padded_length, dim)
        for tensor in (queries * dim**-0.5, keys, values)
    ]
    if torch.jit.is_scripting():
        output, _ = lsh_attention_rounds(
            tokens[0], tokens[1], tokens[2], flat_order, flat_buckets, codes.flatten(1), chunk_length
        )
    else:
        output = _LSHAttentionFunction.apply(*tokens, flat_order, flat_buckets, codes.flatten(1), chunk_length)
    output = output.reshape(batch, heads, padded_length, dim)[:, :, :length].to(values.dtype)
    if padding is not None:
        output = output.masked_fill(padding[:, None, :, None], 0.0)
    return output


class SharedQKAttention(nn.Module):
    """Projections of multi-head self-attention with shared queries and keys; what attends is the subclass's.

    Args:
        embed_dim: channels E of a token.
        num_heads: heads H; must divide ``embed_dim``.

    Raises:
        ValueError: when the heads do not divide the channels.
    """

    def __init__(self, embed_dim: int, num_heads: int = 4) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} must be a positive multiple of num_heads {num_heads}.")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.to_qk = nn.Linear(embed_dim, embed_dim, bias=False)
        self.to_v = nn.Linear(embed_dim, embed_dim, bias=False)
        self.to_out = nn.Linear(embed_dim, embed_dim)

    def split_heads(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, L, E) -> (B, H, L, D)."""
        return tokens.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def merge_heads(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, H, L, D) -> (B, L, E), projected."""
        return self.to_out(tokens.transpose(1, 2).flatten(2))


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
    """Multi-head self-attention in which a token attends to the tokens that hash into its bucket.

    In eval mode the hash rotations are those of ``seed``, so the same input gives the same output. In training they
    are drawn anew at each call from (seed, number of calls so far); the count is part of the state dict, so that a
    resumed training goes on with the same draws. The global random state is neither read nor changed. Queries and
    their hash are computed in float32 under autocast too; scripted modules use the rotations of ``seed`` always.

    Args:
        embed_dim: channels E of a token.
        num_heads: heads H; must divide ``embed_dim``.
        bucket_size: mean number of tokens in a bucket; a chunk holds twice as many.
        num_rounds: hash rounds n_r; more rounds come closer to full attention.
        seed: seed of the rotations.

    Raises:
        ValueError: for a size or count below 1, or heads that do not divide the channels.

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
            ValueError: when the shape is another.
        """
        if tokens.dim() != 3 or tokens.shape[-1] != self.embed_dim:
            raise ValueError(f"Expected tokens of shape (batch, length, {self.embed_dim}), got {list(tokens.shape)}.")
        queries = self.split_heads(self.project_queries(tokens))
        values = self.split_heads(self.to_v(tokens))
        buckets = self.hash_tokens(queries.detach(), padding)
        attended = self.attend_tokens(queries, values, buckets, padding)
        return self.merge_heads(attended)

    def attend_tokens(
        self, queries: torch.Tensor, values: torch.Tensor, buckets: torch.Tensor, padding: torch.Tensor | None
    ) -> torch.Tensor:
        """Attention in the precision of the values on a GPU, in float32 on a CPU, where half precision only costs."""
        precision = values.dtype if values.is_cuda else torch.float32
        queries, length = queries.to(precision), 2 * self.bucket_size
        if torch.jit.is_scripting():
            return lsh_attention(queries, values.to(precision), buckets, length, padding)
        with torch.autocast(values.device.type, enabled=False):
            return lsh_attention(queries, values.to(precision), buckets, length, padding)

    def project_queries(self, tokens: torch.Tensor) -> torch.Tensor:
        """Shared queries and keys (B, L, E) in float32, autocast or not, since they decide the buckets."""
        if torch.jit.is_scripting():
            return self.to_qk(tokens).float()
        with torch.autocast(tokens.device.type, enabled=False):
            return F.linear(tokens.float(), self.to_qk.weight.float())

    def hash_tokens(self, queries: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        """Buckets (rounds, B, H, L) of queries (B, H, L, D); each sample's number of buckets is by its real length."""
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
        """Rotations of this call: those of the seed, or in training the next draw."""
        if self.training and not torch.jit.is_scripting():
            return self._next_rotations()
        return self.eval_rotations

    @torch.jit.unused
    def _next_rotations(self) -> torch.Tensor:
        self.training_calls += 1
        draw = self.seed * 1_000_003 + int(self.training_calls)
        return random_rotations(self.num_rounds, self.head_dim, draw)
