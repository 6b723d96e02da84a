"""outsample: estimate the accuracy of small trained networks from their weights, measured against random sampling."""

from outsample import _core, gaussian, zoo
from outsample._build import build_info, use_isa
from outsample.advice import Advice, load_advice, shipped_advice
from outsample.comparison import compare
from outsample.cubature import calibrate_cubature, fit_cubature
from outsample.estimators import (
    ESTIMATORS,
    AdviceCost,
    AdviceWarning,
    CellPropagation,
    Combined,
    ConditionalMonteCarlo,
    ConfidenceInterval,
    Constant,
    Cost,
    DeterministicCubature,
    EmpiricalCubature,
    Enumeration,
    Estimate,
    Estimator,
    ExactIntegration,
    GaussianPropagation,
    MonteCarlo,
    QuasiMonteCarlo,
    TransferredCubature,
    confusion_matrix,
)
from outsample.loading import load, state_dict_from
from outsample.models import RNN, Model
from outsample.noise import PROTOCOLS, NoiseEnsemble, Protocol, get_protocol, require_fitting
from outsample.results import Comparison
from outsample.surprise import explain, surprise_left
from outsample.tasks import TASKS, Task, get_task
from outsample.training import DivergenceError, Gradients, LogPoint, TrainingResult, gradients, train
from outsample.transformer import Transformer
from outsample.truth import Truth, ground_truth

__version__ = _core.__version__

__all__ = [
    "ESTIMATORS",
    "PROTOCOLS",
    "RNN",
    "TASKS",
    "Advice",
    "AdviceCost",
    "AdviceWarning",
    "CellPropagation",
    "Combined",
    "Comparison",
    "ConditionalMonteCarlo",
    "ConfidenceInterval",
    "Constant",
    "Cost",
    "DeterministicCubature",
    "DivergenceError",
    "EmpiricalCubature",
    "Enumeration",
    "Estimate",
    "Estimator",
    "ExactIntegration",
    "GaussianPropagation",
    "Gradients",
    "LogPoint",
    "Model",
    "MonteCarlo",
    "NoiseEnsemble",
    "Protocol",
    "QuasiMonteCarlo",
    "Task",
    "TrainingResult",
    "TransferredCubature",
    "Transformer",
    "Truth",
    "build_info",
    "calibrate_cubature",
    "compare",
    "confusion_matrix",
    "explain",
    "fit_cubature",
    "gaussian",
    "get_protocol",
    "get_task",
    "gradients",
    "ground_truth",
    "load",
    "load_advice",
    "require_fitting",
    "shipped_advice",
    "state_dict_from",
    "surprise_left",
    "train",
    "use_isa",
    "zoo",
]
