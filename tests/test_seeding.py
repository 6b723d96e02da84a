"""Keys and streams."""

from __future__ import annotations

import numpy as np
import pytest

from outsample.seeding import philox_key


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**70 + 3, None])
def test_a_key_is_what_the_seed_sequence_generates(seed):
    sequence = np.random.SeedSequence(seed)
    for child in (sequence, *sequence.spawn(50), np.random.SeedSequence(seed, pool_size=8)):
        assert philox_key(child) == int(child.generate_state(1, np.uint64)[0])
        assert philox_key(child) & 0xFFFFFFFF == int(child.generate_state(1)[0])
