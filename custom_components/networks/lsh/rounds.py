"""LSH attention for given buckets: all rounds, forward and backward, in memory linear in the length."""

import torch
from custom_components.networks.lsh.hashing import sort_by_bucket
from custom_components.networks.lsh.steps import (
    attend,
    chunk,
    chunk_with_previous,
    combine,
    exponentials,
    hide_pairs,
    meeting_code,
    pair_logits,
)
from torch.autograd.function import once_differentiable

# More than what `exponentials` gives a hidden pair on a CPU.
LEAST_WEIGHT = 2e-35


def _chunks_per_block(chunk_length: int, on_gpu: bool) -> int:
    """Number of chunks per block: its logits fit a core's cache (4 MB on a CPU) or fill the device (GPU)."""
    budget = 64 * 1024 * 1024 if on_gpu else 1024 * 1024
    return max(1, budget // (2 * chunk_length * chunk_length))


def _round_tables(
    order: torch.Tensor, buckets: torch.Tensor, codes: torch.Tensor, index: int, chunk_length: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of one round: the order behind a filler chunk, and sorted, chunked buckets and earlier codes of both sides."""
    padded = torch.cat([order[index, :chunk_length], order[index]])
    filler = torch.full_like(buckets[index, :chunk_length], -1)  # the filler chunk has no bucket
    bucket = torch.cat([filler, buckets[index]])
    earlier = codes[:index].index_select(1, padded)
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
        queries: (N, D).
        keys: (N, D).
        values: (N, D).
        order: (rounds, T) sorted order, as indices of the flat tokens; T = sequences x padded length, a multiple of
            ``chunk_length``. Indices from N on are filler.
        buckets: (rounds, T) sorted buckets, no two sequences sharing one.
        codes: (rounds, T) meeting codes in token order.
        chunk_length: m.

    Returns:
        Output (T, D) and log-sum-exp (T,); values from N on are undefined.
    """
    block = _chunks_per_block(chunk_length, queries.is_cuda)
    precision = torch.float64 if values.dtype == torch.float64 else torch.float32
    output = torch.empty(order.shape[1], values.shape[1], dtype=precision, device=values.device)
    logsumexp = torch.empty(order.shape[1], dtype=precision, device=values.device)
    for index in range(order.shape[0]):
        padded, bucket_q, bucket_k, earlier_q, earlier_k = _round_tables(order, buckets, codes, index, chunk_length)
        tokens = padded.clamp(max=values.shape[0] - 1)
        for start in range(0, bucket_q.shape[0], block):
            part = slice(start, start + block)
            own = padded[(start + 1) * chunk_length : (start + 1 + block) * chunk_length]
            seen = tokens[start * chunk_length : (start + 1 + block) * chunk_length]
            block_q = chunk(queries.index_select(0, seen[chunk_length:]), chunk_length)
            block_k = chunk_with_previous(keys.index_select(0, seen), chunk_length)
            logits = pair_logits(block_q, block_k, index == 0)
            hide_pairs(logits, bucket_q[part], bucket_k[part], earlier_q[:, part], earlier_k[:, part])
            out, z = attend(logits, chunk_with_previous(values.index_select(0, seen), chunk_length))
            out, z = out.flatten(0, 1), z.flatten()
            if index > 0:
                out, z = combine(output.index_select(0, own), logsumexp.index_select(0, own), out, z)
            output.index_copy_(0, own, out)
            logsumexp.index_copy_(0, own, z)
    return output, logsumexp


class _LSHAttentionFunction(torch.autograd.Function):
    """LSH attention that recomputes the weights in the backward pass instead of storing them, size (T, m).

    With the joint log-sum-exp z the recomputed ``p_ij = exp(logit_ij - z_i)`` are the weights of the one softmax over
    the union, so each round's block gives its share of the exact gradient:
    ``dV += P^T dA``, ``dS = P * (dA V^T - sum(dA * A))``, ``dQ += dS K``, ``dK += dS^T Q``.
    """

    @staticmethod
    def forward(ctx, queries, keys, values, order, buckets, codes, chunk_length):  # type: ignore[no-untyped-def]
        output, logsumexp = lsh_attention_rounds(queries, keys, values, order, buckets, codes, chunk_length)
        ctx.save_for_backward(queries, keys, values, order, buckets, codes, output, logsumexp)
        ctx.chunk_length = chunk_length
        return output[: len(values)]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):  # type: ignore[no-untyped-def]
        queries, keys, values, order, buckets, codes, output, logsumexp = ctx.saved_tensors
        delta = (grad_output * output[: len(values)]).sum(-1)
        grads = [output.new_zeros(len(output), tensor.shape[1]) for tensor in (queries, keys, values)]
        for index in range(order.shape[0]):
            _add_round_gradients(
                grads, queries, keys, values, grad_output.to(values.dtype), delta, logsumexp,
                order, buckets, codes, index, ctx.chunk_length,
            )  # fmt: skip
        return (*(grad[: len(values)].to(queries.dtype) for grad in grads), None, None, None, None)


def _add_round_gradients(  # type: ignore[no-untyped-def]
    grads, queries, keys, values, grad_output, delta, logsumexp, order, buckets, codes, index, chunk_length
) -> None:
    """Add one round's contribution to the gradients (T, D) of queries, keys and values, in place, block by block."""
    padded, bucket_q, bucket_k, earlier_q, earlier_k = _round_tables(order, buckets, codes, index, chunk_length)
    tokens = padded.clamp(max=len(queries) - 1)
    block = _chunks_per_block(chunk_length, queries.is_cuda)
    for start in range(0, len(bucket_q), block):
        part = slice(start, start + block)
        places = slice(start * chunk_length, (start + 1 + block) * chunk_length)
        seen, own = tokens[places], tokens[places][chunk_length:]
        block_q, block_grad = (chunk(every.index_select(0, own), chunk_length) for every in (queries, grad_output))
        block_k, block_v = (chunk_with_previous(every.index_select(0, seen), chunk_length) for every in (keys, values))
        z, own_delta = (chunk(every.index_select(0, own), chunk_length).unsqueeze(-1) for every in (logsumexp, delta))
        logits = pair_logits(block_q, block_k, index == 0)
        hide_pairs(logits, bucket_q[part], bucket_k[part], earlier_q[:, part], earlier_k[:, part])
        weights = torch.threshold_(exponentials(logits, z), LEAST_WEIGHT, 0.0)  # hidden pairs get no gradient
        grad_weights = torch.bmm(block_grad, block_v.transpose(1, 2)).to(weights.dtype)
        grad_logits = grad_weights.sub_(own_delta).mul_(weights).to(queries.dtype)
        weights = weights.to(values.dtype)
        shares = (
            torch.bmm(grad_logits, block_k).flatten(0, 1),
            _joined_windows(torch.bmm(grad_logits.transpose(1, 2), block_q)),
            _joined_windows(torch.bmm(weights.transpose(1, 2), block_grad)),
        )
        targets = (padded[places][chunk_length:], padded[places], padded[places])
        for grad, target, share in zip(grads, targets, shares, strict=True):
            grad.index_add_(0, target, share.to(grad.dtype))


def _joined_windows(windows: torch.Tensor) -> torch.Tensor:
    """Sum of (n, 2 m, D) windows over the ((n + 1) m, D) tokens that they cover: each begins with the chunk before."""
    count, length = windows.shape[0], windows.shape[1] // 2
    chunks = windows.new_empty(count + 1, length, windows.shape[2])
    chunks[0] = windows[0, :length]
    chunks[1:] = windows[:, length:]
    chunks[1:count] += windows[1:, :length]
    return chunks.flatten(0, 1)


def lsh_attention(
    queries: torch.Tensor,
    values: torch.Tensor,
    buckets: torch.Tensor,
    chunk_length: int,
    padding: torch.Tensor | None = None,
) -> torch.Tensor:
    """LSH attention with shared queries and keys, ``k = q / |q|``, for given buckets.

    Gradients flow to queries and values, not to the buckets. Time and memory are linear in the length.

    Args:
        queries: (B, H, L, D).
        values: (B, H, L, D).
        buckets: integers (rounds, B, H, L) from :func:`hash_vectors`.
        chunk_length: tokens in a chunk, m.
        padding: boolean (B, L), True where a token is padding: it does not affect other tokens, and its output is 0.

    Returns:
        (B, H, L, D) in the type of ``values``.
    """
    batch, heads, length, dim = queries.shape
    keys = queries * (dim**-0.5 / torch.linalg.vector_norm(queries, dim=-1, keepdim=True).clamp_min(1e-6))
    tokens = [part.transpose(1, 2).reshape(-1, dim) for part in (queries, keys, values)]  # as projected: no copy
    order, sorted_buckets, codes = _sort_rounds(_flat_buckets(buckets, chunk_length, padding), chunk_length)
    if torch.jit.is_scripting():
        output, _ = lsh_attention_rounds(tokens[0], tokens[1], tokens[2], order, sorted_buckets, codes, chunk_length)
        output = output[: batch * length * heads]
    else:
        output = _LSHAttentionFunction.apply(*tokens, order, sorted_buckets, codes, chunk_length)
    output = output.reshape(batch, length, heads, dim).transpose(1, 2).to(values.dtype)
    if padding is not None:
        output = output.masked_fill(padding[:, None, :, None], 0.0)
    return output


def _flat_buckets(buckets: torch.Tensor, chunk_length: int, padding: torch.Tensor | None) -> torch.Tensor:
    """Buckets unique to each sequence, in the order of the flat tokens, followed by filler.

    Args:
        buckets: integers (rounds, B, H, L).
        chunk_length: tokens in a chunk, m.
        padding: boolean (B, L) or None.

    Returns:
        int32 (rounds, B * L * H + B * H * filler); the filler completes the last chunk of each sequence.
    """
    rounds, batch, heads, length = buckets.shape
    sequences, spare = batch * heads, -length % chunk_length
    last = int(buckets.max()) + 1
    if padding is not None:
        buckets = buckets.masked_fill(padding[:, None, :], last)  # padding is sorted last, filler behind it
    start = (last + 2) * torch.arange(sequences, dtype=torch.int32, device=buckets.device)
    flat = buckets.to(torch.int32) + start.view(batch, heads, 1)
    filler = (start + last + 1).repeat_interleave(spare).expand(rounds, -1)
    return torch.cat([flat.transpose(2, 3).flatten(1), filler], dim=1)


def _sort_rounds(buckets: torch.Tensor, chunk_length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of flat buckets (rounds, T): order and sorted buckets of each round, and meeting codes in token order."""
    order = torch.empty(buckets.shape, dtype=torch.int64, device=buckets.device)
    sorted_buckets, codes = torch.empty_like(buckets), torch.empty_like(buckets)
    for index in range(buckets.shape[0]):
        sorted_buckets[index], order[index] = sort_by_bucket(buckets[index])
        codes[index].scatter_(0, order[index], meeting_code(sorted_buckets[index], chunk_length))
    return order, sorted_buckets, codes
