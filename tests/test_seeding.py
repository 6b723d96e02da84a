"""Keys and streams."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from outsample.seeding import child_keys, philox_key


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**70 + 3, None])
def test_a_key_is_what_the_seed_sequence_generates(seed):
    sequence = np.random.SeedSequence(seed)
    for child in (sequence, *sequence.spawn(50), np.random.SeedSequence(seed, pool_size=8)):
        assert philox_key(child) == int(child.generate_state(1, np.uint64)[0])
        assert philox_key(child) & 0xFFFFFFFF == int(child.generate_state(1)[0])


SEEDS = [
    0,
    1,
    np.int64(7),
    2**31,
    2**70 + 3,
    2**200,
    np.random.SeedSequence(5),
    np.random.SeedSequence([1, 2**40], spawn_key=(3, 2**33)),
    np.random.SeedSequence(6, pool_size=8, n_children_spawned=9),
]


@pytest.mark.parametrize("seed", SEEDS, ids=str)
def test_the_keys_of_children_are_those_of_the_children_that_numpy_spawns(seed):
    for count in (0, 1, 300):
        sequence = np.random.SeedSequence(int(seed)) if isinstance(seed, int | np.integer) else seed
        children = copy.deepcopy(sequence).spawn(count)
        assert child_keys(copy.deepcopy(seed), count) == [philox_key(child) for child in children]


@pytest.mark.parametrize("pool_size", [4, 8])
@pytest.mark.parametrize("entropy", [3, 2**70 + 3, 2**200, [1, 2**40, 5, 6, 7], ["0x12"]], ids=str)
def test_the_keys_of_children_of_a_generator_are_those_of_its_child(entropy, pool_size):
    def made() -> np.random.Generator:
        return np.random.default_rng(
            np.random.SeedSequence(entropy, spawn_key=(np.int64(8), 2**40), pool_size=pool_size)
        )

    ours, numpys = made(), made()
    for _ in range(3):  # each use of a generator gives other keys
        (child,) = numpys.bit_generator.seed_seq.spawn(1)
        assert child_keys(ours, 20) == [philox_key(grandchild) for grandchild in child.spawn(20)]


def test_a_seed_sequence_counts_its_children():
    sequence = np.random.SeedSequence(4)
    first = child_keys(sequence, 3)
    assert sequence.n_children_spawned == 3
    assert len({*first, *child_keys(sequence, 3)}) == 6
    assert len({*child_keys(None, 3), *child_keys(None, 3)}) == 6
