import numpy as np


def stream_seed(*numbers: int) -> int:
    """One seed of several numbers, such as seed and epoch; their sum would give (0, 1) and (1, 0) the same draws.

    Args:
        numbers: from 0 up.

    Returns:
        From 0 to 2**63 - 1.

    Example:
        >>> stream_seed(0, 1) != stream_seed(1, 0)
        True
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
