"""LSH attention the slow, obvious way: one softmax over the union of what the rounds let a token attend to."""

import numpy as np
import torch


def attended_pairs(buckets: np.ndarray, chunk_length: int, padding: np.ndarray | None = None) -> np.ndarray:
    """Which j each i attends to in any round, token by token.

    Args:
        buckets: (rounds, length) of one sequence.
        chunk_length: tokens in a chunk.
        padding: boolean (length,), True for tokens that are not there.

    Returns:
        Boolean (length, length), the union over rounds of P_i.
    """
    rounds, length = buckets.shape
    real = [i for i in range(length) if padding is None or not padding[i]]
    union = np.zeros((length, length), dtype=bool)
    for g in range(rounds):
        in_order = sorted(real, key=lambda i: (buckets[g, i], i))
        chunk_of = {token: place // chunk_length for place, token in enumerate(in_order)}
        for i in real:
            for j in real:
                same_bucket = buckets[g, i] == buckets[g, j]
                union[i, j] |= same_bucket and chunk_of[i] - chunk_of[j] in (0, 1)
    return union


def lsh_attention_reference(
    queries: torch.Tensor, values: torch.Tensor, union: torch.Tensor, self_penalty: float = 1e5
) -> torch.Tensor:
    """Dense float64 attention of one head over the attended pairs; differentiable.

    Args:
        queries: (length, dim) float64; values: (length, dim) float64; union: boolean (length, length).
        self_penalty: what a token's logit with itself is lowered by.

    Returns:
        (length, dim); zeros for a token that attends to nothing (padding).
    """
    length, dim = queries.shape
    keys = queries / queries.norm(dim=-1, keepdim=True)
    logits = queries @ keys.T / dim**0.5 - self_penalty * torch.eye(length, dtype=queries.dtype)
    rows = []
    for i in range(length):
        seen = union[i].nonzero().flatten()
        if len(seen) == 0:
            rows.append(torch.zeros(values.shape[1], dtype=values.dtype))
        else:
            rows.append(torch.softmax(logits[i, seen], dim=0) @ values[seen])
    return torch.stack(rows)
