"""The one place where seeds become random streams.

Everything random in outsample is drawn from Philox 4x32-10 (counter-based, in the core) under a key that is made here,
so a result is a function of the seed alone: not of the number of threads, nor of how the work was cut.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

#: What every ``rng`` argument accepts.
RNGLike: TypeAlias = "int | np.integer | np.random.SeedSequence | np.random.Generator | None"


def seed_sequence(rng: RNGLike) -> np.random.SeedSequence:
    """Turn an ``rng`` argument into a SeedSequence.

    A Generator is spawned, not consumed: its own stream goes on as if it had not been passed, and passing it twice
    gives two independent streams.

    Raises
    ------
    TypeError
        If ``rng`` is of another kind.
    ValueError
        If ``rng`` is a negative integer.
    """
    if isinstance(rng, np.random.SeedSequence):
        return rng
    if isinstance(rng, np.random.Generator):
        child: np.random.SeedSequence = rng.bit_generator.spawn(1)[0].seed_seq  # type: ignore[assignment]
        return child
    if rng is None:
        return np.random.SeedSequence()
    if isinstance(rng, int | np.integer) and not isinstance(rng, bool):
        if rng < 0:
            raise ValueError(f"rng must be a non-negative integer, got {rng}")
        return np.random.SeedSequence(int(rng))
    raise TypeError(f"rng must be None, an int, a SeedSequence or a Generator, got {type(rng).__name__}")


def philox_key(rng: RNGLike) -> int:
    """A 64-bit Philox key drawn from an ``rng`` argument: ``seed_sequence(rng).generate_state(1, np.uint64)[0]``.

    `SeedSequence.generate_state` itself takes longer than sampling a hundred inputs. The two words of the key are the
    first two of its pool, hashed (M. E. O'Neill, "Developing a seed_seq alternative", 2015; constants as in numpy,
    which promises to keep them).
    """
    pool: list[int] = seed_sequence(rng).pool.tolist()
    low = (pool[0] ^ 0x8B51F9DD) * 0x464A0A99 & 0xFFFFFFFF
    high = (pool[1] ^ 0x464A0A99) * 0x819D14A5 & 0xFFFFFFFF
    return (low ^ low >> 16) | (high ^ high >> 16) << 32


def child_keys(rng: RNGLike, count: int) -> list[int]:
    """The keys of an ``rng`` argument's children, ``[philox_key(s) for s in seed_sequence(rng).spawn(count)]``.

    A child's pool is its parent's with one more word mixed in, its number (numpy's algorithm, as in `philox_key`), so
    that a child need not be made, which takes as long as sampling two hundred inputs. A SeedSequence of the caller's
    is asked to spawn all the same, since it counts its children, and so is one of unusual make.
    """
    seed = seed_sequence(rng)
    if seed is rng or len(seed.pool) != 4 or not isinstance(seed.entropy, int):
        return [philox_key(child) for child in seed.spawn(count)]
    words = [max(1, -(-int(number).bit_length() // 32)) for number in (seed.entropy, *seed.spawn_key)]
    mixed = max(4, words[0]) + sum(words[1:])  # words in the parent's pool, with four hashes each
    constant = 0x43B0D7E5 * pow(0x931E8875, 4 * mixed, 1 << 32) & 0xFFFFFFFF
    numbers = np.arange(count, dtype=np.uint32)
    pool = []
    for word in seed.pool[:2].tolist():
        hashed = numbers ^ np.uint32(constant)
        constant = constant * 0x931E8875 & 0xFFFFFFFF
        hashed *= np.uint32(constant)
        hashed ^= hashed >> 16
        mix = np.uint32(0xCA01F9DD * word & 0xFFFFFFFF) - np.uint32(0x4973F715) * hashed
        pool.append(mix ^ mix >> 16)
    low = (pool[0] ^ np.uint32(0x8B51F9DD)) * np.uint32(0x464A0A99)
    high = (pool[1] ^ np.uint32(0x464A0A99)) * np.uint32(0x819D14A5)
    keys: list[int] = (
        (low ^ low >> 16).astype(np.uint64) | (high ^ high >> 16).astype(np.uint64) << np.uint64(32)
    ).tolist()
    return keys


#: First word of the spawn key of every stream that the package draws for itself. The words are far above any number of
#: children that `SeedSequence.spawn` hands out, so no domain's stream is ever a stream of another, nor of a user's.
_DOMAINS = {
    "evaluation": 0x6576616C,
    "fitting": 0x66697474,
    "truth": 0x74727574,
    "estimation": 0x65737469,
    "bootstrap": 0x626F6F74,
    "training": 0x74726169,
}


def domain_seed(domain: str, seed: int, *path: int) -> np.random.SeedSequence:
    """The seed of one stream of one domain: a pure function of its arguments, disjoint from every other domain.

    Parameters
    ----------
    domain : str
        ``"evaluation"`` (noise of models that methods are scored on), ``"fitting"`` (noise and labels of models that
        anything is fitted on), ``"truth"``, ``"estimation"`` (random numbers of the methods under comparison),
        ``"bootstrap"``, ``"training"``.
    seed : int
        Non-negative.
    path : int
        Further non-negative integers, such as the index of a model.
    """
    return np.random.SeedSequence(seed, spawn_key=(_DOMAINS[domain], *path))
