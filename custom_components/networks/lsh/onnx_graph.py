"""LSH attention as one graph of tensor operations for ONNX: no loop over blocks, no data-dependent size.

The same function as ``hashing`` and ``rounds`` compute, in the notation of ``steps``; all chunks of a round
at once, so that memory is some kilobytes a token. Tokens are sorted by (bucket, position) as one number, so that no
stable sort is needed.
"""

import torch
import torch.nn.functional as F
from custom_components.networks.lsh.hashing import MAX_DIRECT_BUCKETS
from custom_components.networks.lsh.steps import HIDDEN_LOGIT, SELF_PENALTY, hidden_pairs


def bucket_digits(length: int, bucket_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Number of buckets and its two factors, as :func:`bucket_factors`, for a length known only at run time.

    Args:
        length: number of tokens, l.
        bucket_size: mean number of tokens in a bucket.

    Returns:
        Two even integers as tensors of no dimension; the second is 1 for a direct hash.

    Example:
        >>> bucket_digits(1000, 50), bucket_digits(34225, 32)
        ((tensor(20), tensor(1)), (tensor(32), tensor(34)))
    """
    buckets = 2 * torch.full((), length, dtype=torch.float64).div(2 * bucket_size).floor().clamp(min=1.0)
    first = 2 * ((buckets.sqrt() + 1) / 2).floor()
    second = 2 * ((buckets / first + 1) / 2).floor().clamp(min=1.0)
    direct = buckets <= MAX_DIRECT_BUCKETS
    return torch.where(direct, buckets, first).long(), torch.where(direct, torch.ones_like(second), second).long()


def hash_digit(vectors: torch.Tensor, rotation: torch.Tensor, buckets: torch.Tensor) -> torch.Tensor:
    """``argmax([xR; -xR])`` over the first ``buckets / 2`` columns of R; 0 for one bucket.

    Args:
        vectors: (..., length, head_dim).
        rotation: (head_dim, MAX_DIRECT_BUCKETS / 2).
        buckets: number of buckets, a tensor.

    Returns:
        int64 (..., length).
    """
    columns, half = torch.arange(rotation.shape[1], device=vectors.device), buckets // 2
    unused = torch.where(columns < half, 0.0, float("-inf")).to(vectors.dtype)
    rotated = vectors @ rotation
    best, place = (rotated + unused).max(dim=-1)
    opposite, opposite_place = (unused - rotated).max(dim=-1)
    return torch.where(best >= opposite, place, opposite_place + half)


def hash_in_graph(vectors: torch.Tensor, rotations: torch.Tensor, bucket_size: int) -> torch.Tensor:
    """The hash of :func:`hash_vectors`.

    Args:
        vectors: (..., length, head_dim).
        rotations: (num_rounds, 2, head_dim, MAX_DIRECT_BUCKETS / 2).
        bucket_size: mean number of tokens in a bucket.

    Returns:
        int64 buckets (num_rounds, ..., length).
    """
    first, second = bucket_digits(vectors.shape[-2], bucket_size)
    table = rotations.to(vectors.dtype)
    return torch.stack(
        [hash_digit(vectors, both[0], first) * second + hash_digit(vectors, both[1], second) for both in table]
    )


def lsh_attention_graph(
    queries: torch.Tensor, values: torch.Tensor, buckets: torch.Tensor, chunk_length: int
) -> torch.Tensor:
    """Same attention as :func:`lsh_attention`, without padding and custom gradient.

    Args:
        queries: (B, H, L, D).
        values: (B, H, L, D).
        buckets: (rounds, B, H, L) from :func:`hash_in_graph`.
        chunk_length: tokens in a chunk, m.

    Returns:
        (B, H, L, D).
    """
    length, dim = queries.shape[2:]
    chunks = (length + chunk_length - 1) // chunk_length
    spare = chunks * chunk_length - length
    keys = F.normalize(queries, dim=-1, eps=1e-6)
    tokens = [F.pad(part, [0, 0, 0, spare]) for part in (queries * dim**-0.5, keys, values)]
    buckets = F.pad(buckets, [0, spare], value=MAX_DIRECT_BUCKETS**2)  # padding is sorted last
    order = (buckets * (length + spare) + torch.arange(length + spare, device=queries.device)).argsort(dim=-1)
    ranks = order.argsort(dim=-1)
    codes = torch.div(ranks, chunk_length, rounding_mode="floor") + 2 * buckets
    outputs, sums = [], []
    for index in range(order.shape[0]):
        queries, keys, values = (_sorted_chunks(part, order[index], chunks, chunk_length) for part in tokens)
        marks = torch.stack([buckets[index], *codes[:index]], dim=-1)
        output, logsumexp = _attend(queries, keys, values, _sorted_chunks(marks, order[index], chunks, chunk_length))
        outputs.append(_take(output.flatten(2, 3), ranks[index]))
        sums.append(_take(logsumexp.flatten(2, 3).unsqueeze(-1), ranks[index]))
    shares = torch.softmax(torch.stack(sums), dim=0)
    return (shares * torch.stack(outputs)).sum(dim=0)[:, :, :length]


def _attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, marks: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output (..., n, m, D) and log-sum-exp (..., n, m) of one round; marks are its buckets and all earlier codes."""
    mark_q, mark_k = marks.movedim(-1, 0), _with_previous(marks, -1).movedim(-1, 0)
    hidden = hidden_pairs(mark_q[0], mark_k[0], mark_q[1:], mark_k[1:])
    logits = queries @ _with_previous(keys, 0).transpose(-1, -2)
    if marks.shape[-1] == 1:  # first round
        own = torch.arange(queries.shape[-2], device=logits.device)
        itself = own.unsqueeze(1) + len(own) == torch.arange(2 * len(own), device=logits.device)
        logits = logits - SELF_PENALTY * itself
    logits = torch.where(hidden, HIDDEN_LOGIT, logits)
    return torch.softmax(logits, dim=-1) @ _with_previous(values, 0), torch.logsumexp(logits, dim=-1)


def _take(tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Gather tokens (B, H, T, D) at indices (B, H, T)."""
    return tokens.gather(2, places.unsqueeze(-1).expand(-1, -1, -1, tokens.shape[-1]))


def _sorted_chunks(tokens: torch.Tensor, order: torch.Tensor, chunks: int, chunk_length: int) -> torch.Tensor:
    """Tokens (B, H, T, D) in sorted order, split into chunks (B, H, n, m, D)."""
    return _take(tokens, order).unflatten(2, (chunks, chunk_length))


def _with_previous(chunks: torch.Tensor, filler: int) -> torch.Tensor:
    """Prepend the previous chunk to each chunk: (B, H, n, m, D) to (B, H, n, 2 m, D)."""
    before = F.pad(chunks, [0, 0, 0, 0, 1, 0], value=filler)[:, :, :-1]
    return torch.cat([before, chunks], dim=3)
