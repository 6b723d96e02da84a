"""outsample: estimate the accuracy of small trained networks from their weights, measured against random sampling."""

from outsample import _core
from outsample._build import build_info, use_isa
from outsample.estimators import ESTIMATORS, ConfidenceInterval, Constant, Cost, Estimate, Estimator
from outsample.models import RNN
from outsample.tasks import TASKS, Task, get_task

__version__ = _core.__version__

__all__ = [
    "ESTIMATORS",
    "RNN",
    "TASKS",
    "ConfidenceInterval",
    "Constant",
    "Cost",
    "Estimate",
    "Estimator",
    "Task",
    "build_info",
    "get_task",
    "use_isa",
]
