"""A hash of whole numbers that stays the same, unlike the streams of random generators."""

import numpy as np
from numpy.typing import NDArray

_GAMMA, _MIX_1, _MIX_2 = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def hash_numbers(numbers: NDArray[np.int64], seed: int = 0) -> NDArray[np.uint64]:
    """Return SplitMix64 of whole numbers >= 0 (Steele, Lea, Flood 2014, doi 10.1145/2660193.2660195).

    Args:
        numbers: of any shape.
        seed: another seed gives other hashes.

    Example:
        >>> hash_numbers(np.array([0, 1]))  # the generator's first two outputs from state 0
        array([16294208416658607535,  7960286522194355700], dtype=uint64)
    """
    start = np.uint64(0) if seed == 0 else hash_numbers(np.array([seed]))[0]
    z: NDArray[np.uint64] = (numbers.astype(np.uint64) + np.uint64(1)) * _GAMMA + start  # modulo 2^64
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))
