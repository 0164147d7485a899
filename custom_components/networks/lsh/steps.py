"""Steps of one round of LSH attention: chunk, select pairs, attend, combine.

Chen et al. 2020, Sec. II-C; hashing and sorting, the steps before, are in ``hashing``. Notation: T sorted tokens,
chunks of m, vectors of D.
"""

import torch

# Subtracted from the logit of a token with itself: it attends to itself only if there is no other token.
SELF_PENALTY = 1e5

# Finite stand-in for minus infinity: a token without new pairs in a round gets weight 0, not NaN. It is
# also finite when multiplied by a squared bucket difference.
HIDDEN_LOGIT = -1e20

# What e is raised to at least on a CPU, where what underflows takes ten times as long: 2e-35 is nothing beside the 1 of
# the highest logit.
SMALLEST_EXPONENT = -80.0


def chunk(tokens: torch.Tensor, chunk_length: int) -> torch.Tensor:
    """Split sorted tokens into chunks: (T, ...) -> (T / m, m, ...)."""
    return tokens.unflatten(0, (-1, chunk_length))


def chunk_with_previous(tokens: torch.Tensor, chunk_length: int) -> torch.Tensor:
    """Each chunk together with the previous chunk, as a view.

    Args:
        tokens: (m + T, D): one chunk of filler (the previous chunk of the first chunk), then the sorted tokens.
        chunk_length: m.

    Returns:
        (T / m, 2 m, D), overlapping windows.
    """
    return tokens.unfold(0, 2 * chunk_length, chunk_length).movedim(-1, 1)


def meeting_code(sorted_buckets: torch.Tensor, chunk_length: int) -> torch.Tensor:
    """One integer per token; in a round, i may attend to j if ``code_i - code_j in {0, 1}``.

    code = chunk + 2 * bucket. Within a bucket the difference is that of the chunks; tokens of a higher bucket are
    never in an earlier chunk, so across buckets it is at least 2 or at most -2.

    Args:
        sorted_buckets: (T,) integers, ascending.
        chunk_length: m.

    Returns:
        (T,), of the type of the buckets.

    Example:
        >>> meeting_code(torch.tensor([0, 0, 0, 1]), chunk_length=2)
        tensor([0, 0, 1, 3])
    """
    places = torch.arange(sorted_buckets.shape[0], dtype=sorted_buckets.dtype, device=sorted_buckets.device)
    return places.div_(chunk_length, rounding_mode="floor").add_(sorted_buckets, alpha=2)


def hidden_pairs(
    bucket_q: torch.Tensor, bucket_k: torch.Tensor, earlier_q: torch.Tensor, earlier_k: torch.Tensor
) -> torch.Tensor:
    """Pairs to hide in this round: different buckets, and pairs counted in an earlier round.

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
        hidden |= difference.bitwise_and_(-2) == 0  # difference is 0 or 1: already counted
    return hidden


def pair_logits(
    queries: torch.Tensor, keys: torch.Tensor, lower_self: bool, self_penalty: float = SELF_PENALTY
) -> torch.Tensor:
    """Logits of all pairs of a block of chunks; the logit of a token with itself is lowered by 1e5.

    Args:
        queries: (n, m, D).
        keys: (n, 2 m, D) of length 1 / sqrt(d_k).
        lower_self: True in the first round; in later rounds this pair is already counted.
        self_penalty: the constant, as an argument because of TorchScript.

    Returns:
        (n, m, 2 m), at least float32.
    """
    logits = torch.bmm(queries, keys.transpose(1, 2))
    if logits.dtype == torch.float16 or logits.dtype == torch.bfloat16:
        logits = logits.float()
    if lower_self:
        logits.diagonal(queries.shape[1], 1, 2).sub_(self_penalty)
    return logits


def hide_pairs(
    logits: torch.Tensor,
    bucket_q: torch.Tensor,
    bucket_k: torch.Tensor,
    earlier_q: torch.Tensor,
    earlier_k: torch.Tensor,
    hidden_logit: float = HIDDEN_LOGIT,
) -> torch.Tensor:
    """Mask the logits of the pairs of :func:`hidden_pairs` in place.

    On a CPU this uses float arithmetic, which is several times faster than booleans and exact below 2**24.

    Args:
        logits: (n, m, 2 m).
        bucket_q: see :func:`hidden_pairs`, also for the next three arguments.
        bucket_k: (n, 2 m).
        earlier_q: (g, n, m).
        earlier_k: (g, n, 2 m).
        hidden_logit: the constant, as an argument because of TorchScript.

    Returns:
        The logits.
    """
    if logits.is_cuda:
        return logits.masked_fill_(hidden_pairs(bucket_q, bucket_k, earlier_q, earlier_k), hidden_logit)
    apart = bucket_q.to(logits.dtype).unsqueeze(-1) - bucket_k.to(logits.dtype).unsqueeze(-2)
    logits.addcmul_(apart, apart, value=hidden_logit)
    for index in range(earlier_q.shape[0]):
        centred = earlier_q[index].to(logits.dtype).sub_(0.5).unsqueeze(-1)
        torch.sub(centred, earlier_k[index].to(logits.dtype).unsqueeze(-2), out=apart)
        logits.add_(apart.abs_().lt_(1.0), alpha=hidden_logit)  # a difference of 0 or 1: already counted
    return logits


def exponentials(
    logits: torch.Tensor, highest: torch.Tensor, smallest_exponent: float = SMALLEST_EXPONENT
) -> torch.Tensor:
    """``exp(logits - highest)`` in place; at least 2e-35 on a CPU.

    Args:
        logits: (n, m, 2 m).
        highest: (n, m, 1).
        smallest_exponent: the constant, as an argument because of TorchScript.

    Returns:
        (n, m, 2 m).
    """
    logits.sub_(highest)
    return logits.exp_() if logits.is_cuda else logits.clamp_min_(smallest_exponent).exp_()


def attend(
    logits: torch.Tensor, values: torch.Tensor, smallest_exponent: float = SMALLEST_EXPONENT
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention of each chunk over itself and the previous chunk.

    Args:
        logits: (n, m, 2 m), hidden pairs masked; on a CPU overwritten by the weights.
        values: (n, 2 m, D).
        smallest_exponent: the constant, as an argument because of TorchScript.

    Returns:
        Output (n, m, D) and the log-sum-exp z of the logits (n, m).
    """
    if logits.is_cuda:
        weights = torch.softmax(logits, dim=-1)
        logsumexp = logits.amax(dim=-1) - weights.amax(dim=-1).log()
        return torch.bmm(weights.to(values.dtype), values).to(logits.dtype), logsumexp
    highest = logits.detach().amax(dim=-1, keepdim=True)
    weights = exponentials(logits, highest, smallest_exponent)
    total = weights.sum(dim=-1, keepdim=True)
    return torch.bmm(weights.to(values.dtype), values).to(logits.dtype) / total, (highest + total.log()).squeeze(-1)


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
