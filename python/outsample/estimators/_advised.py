"""What methods with prepared inputs and readouts have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from outsample.advice import Advice, load_advice
from outsample.estimators.base import AdviceCost, Estimator


class AdvisedEstimator(Estimator):
    """Base class of methods that evaluate networks at inputs that advice names, and read the estimate off.

    Parameters
    ----------
    advice : Advice, str or path, optional
        Advice, the name of a shipped one, or a file. Default: what is shipped for the network at hand.
    size : int, optional
        Which size of the advice to use. Default: the largest that the budget allows.
    """

    league = "with advice"
    needs_no_biases = True
    by_shape = True
    draws = False

    def __init__(self, *, advice: Advice | str | Path | None = None, size: int | None = None) -> None:
        self._fixed: Advice | None
        self.advice = advice
        self.size = size
        self._used: Advice | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "advice":
            self._fixed = None  # loaded when it is first needed

    @property
    def settings(self) -> dict[str, Any]:
        advice = self.advice
        return {"advice": advice.name if isinstance(advice, Advice) else advice and str(advice), "size": self.size}

    @property
    def advice_cost(self) -> AdviceCost | None:
        """What making the advice took that was used last; None before it is known which one that is."""
        advice = self._given() or self._used
        return None if advice is None else AdviceCost(advice.record["forwards"], advice.record["seconds"])

    def _given(self) -> Advice | None:
        """The advice that the constructor names, loaded."""
        if self._fixed is None and self.advice is not None:
            self._fixed = self.advice if isinstance(self.advice, Advice) else load_advice(self.advice)
        return self._fixed
