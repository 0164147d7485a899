"""Angular locality-sensitive hashing and sorting of tokens by bucket.

Kitaev, Kaiser, Levskaya: Reformer, the efficient transformer, ICLR 2020; restated with typos by
Chen et al. 2020, Sec. II-C.
"""

import torch

# Up to this number of buckets the hash uses one rotation; above, two rotations for two digits.
MAX_DIRECT_BUCKETS = 256


def number_of_buckets(length: int, bucket_size: int) -> int:
    """Number of hash buckets for a sequence, ``l / bucket_size``, even and at least 2.

    Args:
        length: number of real (not padding) tokens, l.
        bucket_size: mean number of tokens in a bucket.

    Returns:
        An even number.

    Example:
        >>> number_of_buckets(1000, 50), number_of_buckets(3, 50)
        (20, 2)
    """
    return 2 * max(1, length // (2 * bucket_size))


def bucket_factors(num_buckets: int, max_direct: int = MAX_DIRECT_BUCKETS) -> tuple[int, int]:
    """Split a number of buckets into two even factors to keep hashing nearly linear in the length.

    One rotation onto ``num_buckets / 2`` axes costs O(l * num_buckets) = O(l^2 / bucket_size). Above
    ``MAX_DIRECT_BUCKETS`` the hash is the pair of two smaller hashes (the factorised hash of Reformer's own
    code), which costs O(l * sqrt(num_buckets)). Departs from the paper, which does not say how it hashes.

    Args:
        num_buckets: even number of buckets.
        max_direct: maximum number of buckets for a single rotation.

    Returns:
        ``(first, second)``, even numbers whose product is close to ``num_buckets``; second is 1 for a direct hash.
    """
    if num_buckets <= max_direct:
        return num_buckets, 1
    first = 2 * int((num_buckets**0.5 + 1.0) / 2.0)
    return first, 2 * max(1, int((num_buckets / first + 1.0) / 2.0))


def random_rotations(num_rounds: int, head_dim: int, seed: int) -> torch.Tensor:
    """Draw Gaussian rotations R for every round with a separate generator.

    A hash with n buckets uses the first n / 2 columns, so a shorter sequence uses part of the same table.

    Args:
        num_rounds: number of hash rounds, n_r.
        head_dim: length of a token vector, d_k.
        seed: the same seed gives the same rotations; the global random state is not changed.

    Returns:
        Float tensor of shape (num_rounds, 2 digits, head_dim, MAX_DIRECT_BUCKETS / 2).
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_rounds, 2, head_dim, MAX_DIRECT_BUCKETS // 2, generator=generator)


def _digit(vectors: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """``argmax([xR; -xR])``, the first of ties; uses float comparisons because max with index is slow.

    Tokens are contiguous in memory, so a CPU can vectorise the comparison.
    """
    across, turned = rotation.transpose(-1, -2), vectors.transpose(-1, -2)
    if torch.jit.is_scripting():
        rotated = across @ turned
    else:
        with torch.autocast(vectors.device.type, enabled=False):
            rotated = across @ turned
    columns = rotated.shape[-2]
    highest, lowest = rotated.amax(dim=-2, keepdim=True), rotated.amin(dim=-2, keepdim=True)
    upper = highest >= -lowest
    countdown = torch.arange(columns, 0, -1, dtype=rotated.dtype, device=rotated.device).unsqueeze(-1)
    left = rotated.eq_(torch.where(upper, highest, lowest)).mul_(countdown).amax(dim=-2).long()
    return torch.where(upper.squeeze(-2), columns - left, 2 * columns - left)


def _tokens_per_block(vectors: torch.Tensor, columns: int) -> int:
    """Number of tokens per block: their rotated vectors fit a core's cache (CPU) or fill the device (GPU)."""
    budget = 64 * 1024 * 1024 if vectors.is_cuda else 256 * 1024
    return max(1, budget * vectors.shape[-2] * vectors.shape[-1] // (columns * max(1, vectors.numel())))


def hash_vectors(vectors: torch.Tensor, rotations: torch.Tensor, num_buckets: int) -> torch.Tensor:
    """Angular hash ``h(x) = argmax([xR; -xR])`` of every token in every round.

    Vectors with similar direction get the same bucket with high probability; their length has no effect.

    Args:
        vectors: (..., length, head_dim), float32 or float64 (half precision moves tokens between buckets).
        rotations: (num_rounds, 2, head_dim, >= num_buckets / 2) from :func:`random_rotations`.
        num_buckets: even number of buckets.

    Returns:
        int64 buckets (num_rounds, ..., length) in [0, num_buckets), or below the product of
        :func:`bucket_factors` when the hash has two digits.

    Raises:
        ValueError: for half-precision vectors.
    """
    if vectors.dtype != torch.float32 and vectors.dtype != torch.float64:
        raise ValueError("Hashing needs float32 or float64 vectors. Cast them to float32 outside of autocast.")
    first, second = bucket_factors(num_buckets)
    vectors = vectors.detach()
    table = rotations.to(device=vectors.device, dtype=vectors.dtype)
    shape = list(vectors.shape[:-1])
    shape.insert(0, table.shape[0])
    hashed = torch.empty(shape, dtype=torch.int64, device=vectors.device)
    block = _tokens_per_block(vectors, first // 2)
    for start in range(0, vectors.shape[-2], block):
        part = vectors[..., start : start + block, :]
        for index in range(table.shape[0]):
            bucket = _digit(part, table[index, 0, :, : first // 2])
            if second > 1:
                bucket = bucket * second + _digit(part, table[index, 1, :, : second // 2])
            hashed[index, ..., start : start + block] = bucket
    return hashed


def sort_by_bucket(buckets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Order that sorts tokens by (bucket, position).

    Args:
        buckets: integers (length,); one axis, so a CPU can use radix sort.

    Returns:
        The sorted buckets, and int64 (length,): positions of the tokens in sorted order.

    Example:
        >>> sort_by_bucket(torch.tensor([1, 0, 1, 0]))
        (tensor([0, 0, 1, 1]), tensor([1, 3, 0, 2]))
    """
    ordered, order = torch.sort(buckets, stable=True)
    return ordered, order


def inverse_order(order: torch.Tensor) -> torch.Tensor:
    """Rank of each token in the sorted order: the inverse permutation.

    Args:
        order: int64 (..., length), a permutation along the last axis.

    Returns:
        int64 (..., length).
    """
    places = torch.arange(order.shape[-1], device=order.device).expand(order.shape)
    return torch.empty_like(order).scatter_(-1, order, places)
