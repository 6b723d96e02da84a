"""All methods. A new one is a new file here and one line in `ESTIMATORS`.

The comparison, the command line, the documentation's table and the tests that hold for every estimator read
`ESTIMATORS`.
"""

from __future__ import annotations

from outsample.estimators.base import AdviceCost, ConfidenceInterval, Cost, Estimate, Estimator
from outsample.estimators.cell_propagation import CellPropagation
from outsample.estimators.combined import Combined
from outsample.estimators.conditional_monte_carlo import ConditionalMonteCarlo
from outsample.estimators.constant import Constant
from outsample.estimators.empirical_cubature import AdviceWarning, EmpiricalCubature
from outsample.estimators.enumeration import Enumeration
from outsample.estimators.exact import ExactIntegration
from outsample.estimators.gaussian_propagation import GaussianPropagation
from outsample.estimators.monte_carlo import MonteCarlo, confusion_matrix
from outsample.estimators.quasi_monte_carlo import DeterministicCubature, QuasiMonteCarlo
from outsample.estimators.transferred_cubature import TransferredCubature

#: Every method by its name, in the order of tables.
ESTIMATORS: dict[str, type[Estimator]] = {
    cls.method: cls
    for cls in (
        Constant,
        MonteCarlo,
        ConditionalMonteCarlo,
        QuasiMonteCarlo,
        DeterministicCubature,
        ExactIntegration,
        Enumeration,
        EmpiricalCubature,
        TransferredCubature,
        GaussianPropagation,
        CellPropagation,
        Combined,
    )
}

__all__ = [
    "ESTIMATORS",
    "AdviceCost",
    "AdviceWarning",
    "CellPropagation",
    "Combined",
    "ConditionalMonteCarlo",
    "ConfidenceInterval",
    "Constant",
    "Cost",
    "DeterministicCubature",
    "EmpiricalCubature",
    "Enumeration",
    "Estimate",
    "Estimator",
    "ExactIntegration",
    "GaussianPropagation",
    "MonteCarlo",
    "QuasiMonteCarlo",
    "TransferredCubature",
    "confusion_matrix",
]
