"""outsample: estimate the accuracy of small trained networks from their weights, measured against random sampling."""

from outsample import _core
from outsample._build import build_info, use_isa
from outsample.estimators import (
    ESTIMATORS,
    ConfidenceInterval,
    Constant,
    Cost,
    Estimate,
    Estimator,
    ExactIntegration,
    MonteCarlo,
)
from outsample.loading import load, state_dict_from
from outsample.models import RNN
from outsample.noise import PROTOCOLS, NoiseEnsemble, Protocol, get_protocol, require_fitting
from outsample.tasks import TASKS, Task, get_task

__version__ = _core.__version__

__all__ = [
    "ESTIMATORS",
    "PROTOCOLS",
    "RNN",
    "TASKS",
    "ConfidenceInterval",
    "Constant",
    "Cost",
    "Estimate",
    "Estimator",
    "ExactIntegration",
    "MonteCarlo",
    "NoiseEnsemble",
    "Protocol",
    "Task",
    "build_info",
    "get_protocol",
    "get_task",
    "load",
    "require_fitting",
    "state_dict_from",
    "use_isa",
]
