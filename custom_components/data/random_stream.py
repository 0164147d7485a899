import numpy as np


def stream_seed(*numbers: int) -> int:
    """Combine several numbers, such as seed and epoch, into one seed that differs for (0, 1) and (1, 0).

    Args:
        numbers: whole numbers, 0 or more.

    Returns:
        A seed from 0 to 2**63 - 1.

    Example:
        >>> stream_seed(0, 1) != stream_seed(1, 0)
        True
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
