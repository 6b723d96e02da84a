from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str

class Network:
    def __init__(
        self,
        W_hh: NDArray[np.float32],
        W_hi: NDArray[np.float32],
        W_oh: NDArray[np.float32],
        seq_len: int,
        b_h: NDArray[np.float32] | None = None,
        b_o: NDArray[np.float32] | None = None,
    ) -> None: ...
    @property
    def forward_multiply_adds(self) -> int: ...

def active_isa() -> str: ...
def build_info() -> dict[str, Any]: ...
def count_correct(network: Network, task: str, samples: int, key: int, first: int = 0, threads: int = 1) -> int: ...
def count_correct_many(
    networks: Sequence[Network], task: str, samples: int, keys: Sequence[int], first: int = 0, threads: int = 1
) -> NDArray[np.int64]: ...
def forward(network: Network, x: NDArray[np.float32], hidden_states: bool = False, threads: int = 1) -> Any: ...
def integrate_exactly(network: Network, task: str, threads: int = 1) -> dict[str, Any]: ...
def use_isa(name: str) -> None: ...
