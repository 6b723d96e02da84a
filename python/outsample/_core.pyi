from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str
points_per_group: int
strata_boxes: int

class Jacobian:
    def __init__(
        self,
        phi: NDArray[np.float32],
        tangent: NDArray[np.float32],
        g: NDArray[np.float32],
        slope: NDArray[np.float32],
        root: NDArray[np.float32],
    ) -> None: ...
    def transposed(self, v: NDArray[np.float32]) -> NDArray[np.float32]: ...
    def normal(self, v: NDArray[np.float32]) -> NDArray[np.float32]: ...

class Forest:
    def __init__(
        self,
        level_sizes: NDArray[np.int32],
        parent: NDArray[np.int32],
        x: NDArray[np.float32],
        target: NDArray[np.int32],
    ) -> None: ...
    @property
    def leaves(self) -> int: ...
    @property
    def nodes(self) -> int: ...
    def multiply_adds(self, hidden_size: int, outputs: int) -> int: ...
    def margins(
        self, weights: NDArray[np.float32], hidden_size: int, outputs: int, threads: int = 1
    ) -> NDArray[np.float32]: ...
    def signals(
        self, weights: NDArray[np.float32], hidden_size: int, outputs: int, threads: int = 1
    ) -> NDArray[np.float32]: ...
    def features(
        self,
        weights: NDArray[np.float32],
        hidden_size: int,
        outputs: int,
        inverse_scale: NDArray[np.float32],
        shift: NDArray[np.float32],
        mean: NDArray[np.float32],
        inverse_sd: NDArray[np.float32],
        threads: int = 1,
    ) -> NDArray[np.float32]: ...
    def tangents(
        self,
        weights: NDArray[np.float32],
        hidden_size: int,
        outputs: int,
        inverse_scale: NDArray[np.float32],
        shift: NDArray[np.float32],
        coefficients: NDArray[np.float32],
        threads: int = 1,
    ) -> NDArray[np.float32]: ...

class Cubature:
    def __init__(
        self,
        forest: Forest,
        hidden_size: int,
        outputs: int,
        inverse_scale: NDArray[np.float32],
        linear: NDArray[np.float32],
        intercept: float,
        hidden: NDArray[np.float32],
        bias: NDArray[np.float32],
        out: NDArray[np.float32],
        index: NDArray[np.int32],
        sign: NDArray[np.float32],
        sum: NDArray[np.float64],
        scale: NDArray[np.float64],
        laws: NDArray[np.float64],
        levels: NDArray[np.float64],
        error: NDArray[np.float64],
        shift: NDArray[np.float32] = ...,
        relative: bool = False,
    ) -> None: ...
    @property
    def multiply_adds(self) -> int: ...
    def evaluate(self, network: Network) -> tuple[float, float, float, float]: ...
    def noise(self, network: Network) -> tuple[float, float]: ...
    def standard_error(self, network: Network) -> float: ...
    def evaluate_many(self, networks: list[Network], threads: int = 1) -> NDArray[np.float64]: ...

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

class Transformer:
    def __init__(
        self,
        embed: NDArray[np.float32],
        pos_embed: NDArray[np.float32],
        in_proj: NDArray[np.float32],
        out_proj: NDArray[np.float32],
        unembed: NDArray[np.float32],
    ) -> None: ...
    @property
    def forward_multiply_adds(self) -> int: ...

class CellPlan:
    def __init__(
        self,
        symbols: NDArray[np.int32],
        mean: NDArray[np.float64],
        variance: NDArray[np.float64],
        labels: NDArray[np.int32] | None = None,
        share: bool = True,
    ) -> None: ...
    @property
    def cells(self) -> int: ...
    @property
    def nodes(self) -> int: ...
    @property
    def inner_nodes(self) -> int: ...

def active_isa() -> str: ...
def bivariate_normal_cdf(
    h: NDArray[np.float64], k: NDArray[np.float64], rho: NDArray[np.float64]
) -> NDArray[np.float64]: ...
def build_info() -> dict[str, Any]: ...
def conditional_expectations(
    network: Network, task: str, x: NDArray[np.float32], threads: int = 1
) -> NDArray[np.float32]: ...
def conditional_sum(
    network: Network, task: str, strata: int, key: int, threads: int = 1, intervals: int = ...
) -> tuple[float, float, int]: ...
def conditional_sum_many(
    networks: Sequence[Network], task: str, strata: int, keys: Sequence[int], threads: int = 1, intervals: int = ...
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]: ...
def count_correct(network: Network, task: str, samples: int, key: int, first: int = 0, threads: int = 1) -> int: ...
def count_correct_many(
    networks: Sequence[Network], task: str, samples: int, keys: Sequence[int], first: int = 0, threads: int = 1
) -> NDArray[np.int64]: ...
def count_confusion(
    network: Network, task: str, samples: int, key: int, first: int = 0, threads: int = 1
) -> NDArray[np.int64]: ...
def sample_moments(
    network: Network, task: str, samples: int, key: int, first: int = 0, threads: int = 1
) -> tuple[float, float]: ...
def normals(key: int, first: int, count: int, n: int, threads: int = 1) -> NDArray[np.float32]: ...
def philox(key: int, first: int, count: int, c2: int = 0, c3: int = 0) -> NDArray[np.uint32]: ...
def forward(network: Network, x: NDArray[np.float32], hidden_states: bool = False, threads: int = 1) -> Any: ...
def integrate_exactly(network: Network, task: str, threads: int = 1) -> dict[str, Any]: ...
def transformer_count_correct(model: Transformer, x: NDArray[np.int32], threads: int = 1) -> int: ...
def transformer_count_correct_range(model: Transformer, first: int, count: int, threads: int = 1) -> int: ...
def transformer_forward(model: Transformer, x: NDArray[np.int32], threads: int = 1) -> NDArray[np.float64]: ...
def loss_gradient(
    network: Network,
    x: NDArray[np.float32],
    task: str,
    targets: NDArray[np.float32] | None = None,
    logit_gradients: NDArray[np.float32] | None = None,
    input_gradients: bool = False,
    threads: int = 1,
) -> tuple[float, int, NDArray[np.float64], Any]: ...
def train(
    hidden_size: int,
    seq_len: int,
    task: str,
    output_size: int,
    biases: bool,
    batch_size: int,
    key: int,
    adamw: tuple[float, float, float, float],
    schedule: tuple[float, int, float, int],
    parameters: NDArray[np.float32],
    first_moment: NDArray[np.float32],
    second_moment: NDArray[np.float32],
    step: int,
    steps: int,
    threads: int = 1,
) -> tuple[int, NDArray[np.float64], NDArray[np.int64]]: ...
def point_sums(
    network: Network,
    tables: NDArray[np.float32],
    exact_last: bool,
    threads: int = 1,
    intervals: int = ...,
    points: int = 0,
) -> tuple[list[float], int]: ...
def random_point_sums(
    network: Network, tables: NDArray[np.float32], exact_last: bool, threads: int, points: int, copies: int, key: int
) -> tuple[list[float], int]: ...
def point_sums_many(
    networks: Sequence[Network],
    tables: NDArray[np.float32],
    exact_last: bool,
    threads: int = 1,
    intervals: int = ...,
    points: int = 0,
    copies: int = 0,
    keys: Sequence[int] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]: ...
def point_sums_of_weights(
    weights: NDArray[np.float32],
    hidden_size: int,
    seq_len: int,
    table: NDArray[np.float32],
    exact_last: bool,
    threads: int = 1,
) -> NDArray[np.float64]: ...
def closest(candidates: list[Cubature], network: Network) -> int: ...
def evaluate_closest(candidates: list[Cubature], network: Network) -> tuple[int, float, float, float, float]: ...
def rule_cost(network: Network, task: str, exact_last: bool) -> tuple[int, int, int, int, int]: ...
def use_isa(name: str) -> None: ...
def condition_on_half_space(
    mean: NDArray[np.float64], covariance: NDArray[np.float64], normal: NDArray[np.float64], offset: float
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]: ...
def normal_quantile(p: NDArray[np.float64]) -> NDArray[np.float64]: ...
def orthant_genz(
    mean: NDArray[np.float64], covariance: NDArray[np.float64], tolerance: float, max_points: int
) -> tuple[float, float]: ...
def orthant_mendell_elston(mean: NDArray[np.float64], covariance: NDArray[np.float64]) -> float: ...
def peak_multiply_add_seconds() -> float: ...
def propagate(
    network: Network, plan: CellPlan, order: int = 2, single: bool = True, threads: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]: ...
def propagate_states(
    network: Network,
    mean: NDArray[np.float64],
    variance: NDArray[np.float64],
    order: int = 2,
    single: bool = False,
    threads: int = 1,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int32]]: ...
def relu_covariance(
    mean: NDArray[np.float64], covariance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def relu_moments(
    mean: NDArray[np.float64], variance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def truncated_normal_moments(
    mean: NDArray[np.float64], variance: NDArray[np.float64], lower: NDArray[np.float64], upper: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
