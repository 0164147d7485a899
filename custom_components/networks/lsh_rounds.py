"""LSH attention for given buckets: all rounds, forward and backward, in memory linear in the length."""

import torch
import torch.nn.functional as F
from custom_components.networks.lsh_hashing import inverse_order, sort_by_bucket
from custom_components.networks.lsh_steps import (
    attend,
    chunk,
    chunk_with_previous,
    combine,
    hidden_pairs,
    meeting_code,
    pair_logits,
)
from torch.autograd.function import once_differentiable


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
