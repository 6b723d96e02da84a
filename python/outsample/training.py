"""Training of the recurrent networks, by AlgZoo's recipe unless told otherwise.

The recipe: weights uniform on +-1/sqrt(d), as torch initialises them; standard Gaussian inputs, new ones at every step;
softmax cross-entropy against the right position, or squared error for the median task; AdamW with decoupled weight
decay (I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019) as in torch, on batches of 1,024
sequences; learning rate 0.04 / sqrt(d) with linear warm-up over 2^14 steps, times max(0.01^(2 step / steps), 0.01).
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from outsample import _core
from outsample._cache import write_atomically
from outsample._progress import Progress
from outsample.models import RNN
from outsample.seeding import domain_seed, philox_key
from outsample.tasks import Task, get_task

_SCHEMA = 1
_FIRST_CHECKPOINT = 20  # log2 of its sequences; AlgZoo has 0, 2^20, 2^21, ...
_SECONDS_BETWEEN_SAVES = 20.0


class DivergenceError(ArithmeticError):
    """Training met a loss or a weight that is not finite.

    Attributes
    ----------
    step : int
        The step at which it happened, counted from 0.
    loss : float
        The loss of that step; it can be finite when it is a weight that is not.
    """

    def __init__(self, step: int, loss: float, learning_rate: float) -> None:
        super().__init__(
            f"training diverged at step {step}: the loss was {loss} and the weights are no longer finite. "
            f"Try a learning_rate below {learning_rate:g}, more warmup_steps, or another seed"
        )
        self.step = step
        self.loss = loss


@dataclass(frozen=True)
class LogPoint:
    """Means over the sequences since the point before.

    Attributes
    ----------
    n_sequences : int
        Sequences seen at the end of the interval.
    loss : float
        Cross-entropy in nats, or squared error for the median task.
    accuracy : float or None
        Share of right answers; None for the median task.
    """

    n_sequences: int
    loss: float
    accuracy: float | None


@dataclass(frozen=True)
class TrainingResult:
    """A trained network and how it came about.

    Attributes
    ----------
    model : RNN
        The network after the last step, named ``{task}_{hidden_size}_{seq_len}_{n_sequences}_{seed}`` as in AlgZoo.
    log : tuple of LogPoint
        Four points per doubling of the sequences.
    checkpoints : dict of int to RNN
        The network after 0, 2^20, 2^21, ... sequences (rounded up to whole steps), as far as training went.
    settings : dict
        Every hyper-parameter.
    seconds : float
        Time spent training in this call.
    """

    model: RNN
    log: tuple[LogPoint, ...]
    checkpoints: dict[int, RNN]
    settings: dict[str, Any]
    seconds: float

    def __repr__(self) -> str:
        last = self.log[-1]
        accuracy = "" if last.accuracy is None else f", accuracy {last.accuracy:.4f}"
        return f"TrainingResult({self.model!r}, loss {last.loss:.5g}{accuracy}, {self.seconds:.1f} s)"


@dataclass(frozen=True)
class _Settings:
    task: str
    hidden_size: int
    seq_len: int
    n_sequences: int
    seed: int
    batch_size: int
    learning_rate: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    warmup_steps: int
    final_factor: float
    biases: bool

    def __post_init__(self) -> None:
        def require(name: str, rule: str, holds: bool) -> None:
            if not holds:
                raise ValueError(f"{name} must be {rule}, got {getattr(self, name)}")

        for name in ("hidden_size", "seq_len", "n_sequences", "seed", "batch_size", "warmup_steps"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
            object.__setattr__(self, name, int(value))
        for name in ("learning_rate", "eps", "weight_decay", "final_factor"):
            value = getattr(self, name)
            if not isinstance(value, int | float | np.floating | np.integer) or isinstance(value, bool):
                raise TypeError(f"{name} must be a number, got {type(value).__name__}")
            object.__setattr__(self, name, float(value))
        object.__setattr__(self, "betas", tuple(map(float, self.betas)))
        if get_task(self.task).inputs != "gaussian":
            raise ValueError(f"task must be one of Gaussian inputs, which the trainer draws, got {self.task}")
        get_task(self.task).check_seq_len(self.seq_len)
        require("hidden_size", "from 1 to 4096", 1 <= self.hidden_size <= 4096)
        require("seq_len", "at most 4096", self.seq_len <= 4096)
        require("seed", "a non-negative integer", self.seed >= 0)
        require("batch_size", "from 1 to 2^24", 1 <= self.batch_size <= 1 << 24)
        require("n_sequences", "from batch_size to 2^62", self.batch_size <= self.n_sequences <= 1 << 62)
        require("learning_rate", "a positive number", 0 < self.learning_rate < math.inf)
        require("betas", "two numbers in [0, 1)", len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas))
        require("eps", "a positive number", 0 < self.eps < math.inf)
        require("weight_decay", "a non-negative number", 0 <= self.weight_decay < math.inf)
        require("warmup_steps", "a non-negative integer", self.warmup_steps >= 0)
        require("final_factor", "a number in (0, 1]", 0 < self.final_factor <= 1)

    @property
    def steps(self) -> int:
        return self.n_sequences // self.batch_size

    @property
    def output_size(self) -> int:
        return get_task(self.task).output_size(self.seq_len)

    @property
    def key(self) -> int:
        return philox_key(domain_seed("training", self.seed, 1))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parts of the flat vector of parameters, in its order."""
        d = self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"W_hh": (d, d), "W_hi": (d,), "W_oh": (self.output_size, d)}
        return shapes | ({"b_h": (d,), "b_o": (self.output_size,)} if self.biases else {})

    def first_parameters(self) -> NDArray[np.float32]:
        count = sum(math.prod(shape) for shape in self.shapes().values())
        uniform = np.random.Generator(np.random.PCG64(domain_seed("training", self.seed, 0))).random(count)
        return ((2 * uniform - 1) / math.sqrt(self.hidden_size)).astype(np.float32)

    def model(self, parameters: NDArray[np.float32], n_sequences: int) -> RNN:
        return RNN(
            **_split(parameters, self.shapes()),
            task=get_task(self.task),
            seq_len=self.seq_len,
            name=f"{self.task}_{self.hidden_size}_{self.seq_len}_{n_sequences}_{self.seed}",
        )

    @property
    def steps_per_call(self) -> int:
        """Between two looks at the keyboard: some 50 ms."""
        return max(1, 2**29 // (self.batch_size * self.seq_len * (self.hidden_size**2 + 64)))

    @cached_property
    def checkpoint_steps(self) -> set[int]:
        marks = {0}
        k = _FIRST_CHECKPOINT
        while (step := -(-(1 << k) // self.batch_size)) <= self.steps:
            marks.add(step)
            k += 1
        return marks

    @cached_property
    def log_steps(self) -> set[int]:
        return {min(self.steps, round(2 ** (j / 4))) for j in range(4 * self.steps.bit_length() + 1)}


def _split(flat: NDArray[Any], shapes: dict[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
    parts = {}
    begin = 0
    for name, shape in shapes.items():
        parts[name] = flat[begin : begin + math.prod(shape)].reshape(shape)
        begin += math.prod(shape)
    return parts


@dataclass(frozen=True)
class _State:
    """Everything that a run has reached. Replaced as a whole, so an interruption never sees half a step of it."""

    step: int
    parameters: NDArray[np.float32]
    first_moment: NDArray[np.float32]
    second_moment: NDArray[np.float32]
    open_interval: tuple[int, float, int] = (0, 0.0, 0)  # steps, sum of losses, right answers since the last LogPoint
    log: tuple[tuple[int, float, int], ...] = ()  # the same of the closed ones, with the step at their end
    checkpoints: tuple[tuple[int, NDArray[np.float32]], ...] = ()

    @classmethod
    def first(cls, settings: _Settings) -> _State:
        parameters = settings.first_parameters()
        zero = np.zeros_like(parameters)
        return cls(0, parameters, zero, zero.copy(), checkpoints=((0, parameters),))

    def advanced(self, settings: _Settings, last: int, threads: int) -> _State:
        """The state some steps later, at most up to step ``last``."""
        marks = settings.log_steps | settings.checkpoint_steps
        last = min([last, self.step + settings.steps_per_call] + [mark for mark in marks if mark > self.step])
        steps = last - self.step
        # Copies, so that an interruption leaves this state as it is.
        parameters, first, second = (a.copy() for a in (self.parameters, self.first_moment, self.second_moment))
        done, loss, correct = _core.train(
            settings.hidden_size,
            settings.seq_len,
            settings.task,
            settings.output_size,
            settings.biases,
            settings.batch_size,
            settings.key,
            (*settings.betas, settings.eps, settings.weight_decay),
            (settings.learning_rate, settings.warmup_steps, settings.final_factor, settings.steps),
            parameters,
            first,
            second,
            self.step,
            steps,
            threads,
        )
        if done < steps:
            raise DivergenceError(self.step + done, float(loss[done]), settings.learning_rate)
        step = self.step + steps
        interval = (
            self.open_interval[0] + steps,
            # One after the other, so that the sum does not depend on where calls begin and end.
            float(np.cumsum([self.open_interval[1], *loss])[-1]),
            self.open_interval[2] + int(correct.sum()),
        )
        log, checkpoints = self.log, self.checkpoints
        if step in settings.log_steps:
            log = (*log, (step, interval[1] / interval[0], interval[2]))
            interval = (0, 0.0, 0)
        if step in settings.checkpoint_steps:
            checkpoints = (*checkpoints, (step, parameters))
        return _State(step, parameters, first, second, interval, log, checkpoints)

    def points(self, settings: _Settings) -> tuple[LogPoint, ...]:
        points = []
        before = 0
        for step, loss, correct in self.log:
            accuracy = None if settings.task == "median" else correct / ((step - before) * settings.batch_size)
            points.append(LogPoint(step * settings.batch_size, loss, accuracy))
            before = step
        return tuple(points)

    def save(self, path: Path, settings: _Settings) -> None:
        stream = io.BytesIO()
        np.savez(
            stream,
            header=np.array(json.dumps({"schema": _SCHEMA, "settings": dataclasses.asdict(settings)})),
            step=np.int64(self.step),
            parameters=self.parameters,
            first_moment=self.first_moment,
            second_moment=self.second_moment,
            open_interval=np.array(self.open_interval, np.float64),
            log=np.array(self.log, np.float64).reshape(-1, 3),
            checkpoint_steps=np.array([step for step, _ in self.checkpoints], np.int64),
            checkpoints=np.stack([parameters for _, parameters in self.checkpoints]),
        )
        write_atomically(path, stream.getvalue())

    @classmethod
    def load(cls, path: Path, settings: _Settings) -> _State:
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                arrays = {name: file[name] for name in file.files if name != "header"}
            theirs = header["settings"]
            if header["schema"] != _SCHEMA:
                raise ValueError(f"its format has number {header['schema']}, this version reads {_SCHEMA}")
            count = settings.first_parameters().size
            rows = arrays["checkpoints"].shape[0]
            wanted = {
                "parameters": (count,),
                "first_moment": (count,),
                "second_moment": (count,),
                "open_interval": (3,),
                "log": (arrays["log"].shape[0], 3),
                "checkpoint_steps": (rows,),
                "checkpoints": (rows, count),
                "step": (),
            }
            ours = json.loads(json.dumps(dataclasses.asdict(settings)))
            different = [key for key in ours if theirs.get(key) != ours[key]]
            for name, shape in wanted.items():
                if not different and (arrays[name].shape != shape or not np.isfinite(arrays[name]).all()):
                    raise ValueError(f"{name} is damaged")
        except (OSError, KeyError, TypeError, AttributeError, IndexError, EOFError, zipfile.BadZipFile) as error:
            if isinstance(error, PermissionError):
                raise
            raise ValueError(f"checkpoint {path} is not a training checkpoint or is damaged ({error})") from error
        except ValueError as error:
            raise ValueError(f"checkpoint {path} cannot be read: {error}") from error
        if different:
            parts = ", ".join(f"{key} {theirs.get(key)!r} there and {ours[key]!r} here" for key in different)
            raise ValueError(
                f"checkpoint {path} belongs to a run with other settings: {parts}. "
                "Repeat its settings, choose another file, or start again with resume=False"
            )
        steps, loss, correct = arrays["open_interval"]
        return cls(
            int(arrays["step"]),
            arrays["parameters"],
            arrays["first_moment"],
            arrays["second_moment"],
            (int(steps), float(loss), int(correct)),
            tuple((int(s), float(m), int(c)) for s, m, c in arrays["log"]),
            tuple(zip(map(int, arrays["checkpoint_steps"]), arrays["checkpoints"], strict=True)),
        )


def _note(points: tuple[LogPoint, ...]) -> str:
    if not points:
        return ""
    accuracy = "" if points[-1].accuracy is None else f", accuracy {points[-1].accuracy:.4f}"
    return f"loss {points[-1].loss:.4f}{accuracy}"


def train(
    task: str | Task,
    hidden_size: int,
    seq_len: int,
    *,
    n_sequences: int = 2**27,
    seed: int = 0,
    batch_size: int = 1024,
    learning_rate: float | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.001,
    warmup_steps: int = 2**14,
    final_factor: float = 0.01,
    biases: bool = False,
    stop_after: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = True,
    threads: int = 1,
    progress: bool | None = False,
    callback: Callable[[LogPoint], object] | None = None,
) -> TrainingResult:
    """Train a network from scratch.

    The result is a function of the arguments up to ``biases`` alone, per instruction set: not of the number of threads,
    nor of interruptions.

    Parameters
    ----------
    task : str or Task
        ``"2nd_argmax"``, ``"argmax"``, ``"argmedian"`` or ``"median"``.
    hidden_size, seq_len : int
        Hidden units d and sequence length n.
    n_sequences : int, default 2**27
        Training sequences; a last, partial batch is left out. AlgZoo uses 2**30.
    seed : int, default 0
        Of the first weights and of the sequences.
    batch_size : int, default 1024
        Sequences per step.
    learning_rate : float, optional
        Before warm-up and decay. Default: 0.04 / sqrt(hidden_size).
    betas, eps, weight_decay : default (0.9, 0.999), 1e-8, 0.001
        Of AdamW.
    warmup_steps : int, default 2**14
        The rate of step s = 0, 1, ... is multiplied by min((s + 1) / warmup_steps, 1).
    final_factor : float, default 0.01
        The rate is also multiplied by max(final_factor ** (2 s / steps), final_factor): it falls during the first half.
    biases : bool, default False
        Train a bias for every hidden unit and every output as well.
    stop_after : int, optional
        Stop once this many sequences are done, on the schedule of the whole run. With ``checkpoint`` a later call
        without it goes on from there.
    checkpoint : path, optional
        An ``.npz`` file that the state is saved to: every 20 seconds, at the end, and when the call is interrupted.
    resume : bool, default True
        Go on from ``checkpoint`` if the file is there. With False it is overwritten.
    threads : int, default 1
        At most eight are of use.
    progress : bool, optional
        Show a bar with loss and accuracy. None: only on a terminal.
    callback : callable, optional
        Called with every new `LogPoint`. An exception of it stops training like an interruption.

    Returns
    -------
    TrainingResult

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong kind, or the checkpoint is damaged or of other settings.
    DivergenceError
        If the loss or a weight stops being finite. The checkpoint file keeps the last state saved before.

    Examples
    --------
    >>> result = train("2nd_argmax", 2, 2, n_sequences=2**20)
    >>> result.model
    RNN('2nd_argmax_2_2_1048576_0', task='2nd_argmax', hidden_size=2, seq_len=2, parameters=10)
    """
    if learning_rate is None:
        learning_rate = 0.04 / math.sqrt(hidden_size) if isinstance(hidden_size, int) and hidden_size > 0 else 0.04
    settings = _Settings(
        get_task(task).name,
        hidden_size,
        seq_len,
        n_sequences,
        seed,
        batch_size,
        learning_rate,
        betas,
        eps,
        weight_decay,
        warmup_steps,
        final_factor,
        bool(biases),
    )
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    last = settings.steps
    if stop_after is not None:
        if stop_after < settings.batch_size:
            raise ValueError(f"stop_after must be at least batch_size, {settings.batch_size}, got {stop_after}")
        last = min(last, stop_after // settings.batch_size)
    path = None
    if checkpoint is not None:
        path = Path(checkpoint)
        if path.suffix != ".npz":
            raise ValueError(f"checkpoint must end in .npz, got {str(path)!r}")
    state = _State.first(settings)
    if path is not None and resume and path.exists():
        state = _State.load(path, settings)

    started = time.perf_counter()
    saved_at, saved_step = started, -1
    try:
        with Progress(last, f"{settings.task}_{hidden_size}_{seq_len}", enabled=progress) as bar:
            bar.advance(state.step)
            while state.step < last:
                before = state
                state = state.advanced(settings, last, threads)
                points = state.points(settings)
                bar.advance(state.step - before.step, _note(points))
                if callback is not None and len(state.log) > len(before.log):
                    callback(points[-1])
                if path is not None and time.perf_counter() - saved_at > _SECONDS_BETWEEN_SAVES:
                    state.save(path, settings)
                    saved_at, saved_step = time.perf_counter(), state.step
    except BaseException:
        if path is not None and state.step != saved_step:
            state.save(path, settings)
        raise
    if path is not None:
        state.save(path, settings)
    return TrainingResult(
        settings.model(state.parameters, state.step * settings.batch_size),
        state.points(settings),
        {
            step * settings.batch_size: settings.model(parameters, step * settings.batch_size)
            for step, parameters in state.checkpoints
        },
        dataclasses.asdict(settings),
        time.perf_counter() - started,
    )


@dataclass(frozen=True)
class Gradients:
    """Loss of a batch and its derivatives, all of them means over the batch except ``inputs``.

    Attributes
    ----------
    loss : float or None
        Mean loss; None where derivatives with respect to the logits were given.
    weights : dict of str to ndarray, float64
        By name: ``W_hh``, ``W_hi``, ``W_oh``, and ``b_h``, ``b_o`` where present; shapes as in the network.
    inputs : ndarray, shape (count, n), float32
        Derivative of every sequence's own loss with respect to its inputs.
    """

    loss: float | None
    weights: dict[str, NDArray[np.float64]]
    inputs: NDArray[np.float32]


def gradients(
    model: RNN,
    x: ArrayLike,
    targets: ArrayLike | None = None,
    *,
    logit_gradients: ArrayLike | None = None,
    threads: int = 1,
) -> Gradients:
    """Derivatives of the loss with respect to weights and inputs, by the backward pass that training uses.

    Parameters
    ----------
    model : RNN
    x : array_like, shape (count, n)
        Inputs.
    targets : array_like, shape (count,), optional
        Positions, or values for the median task. Default: the task's own.
    logit_gradients : array_like, shape (count, outputs), optional
        Start the backward pass from these derivatives of any function of the logits in place of the loss; for the
        margin of logit a over logit b: 1 at a, -1 at b.
    threads : int, default 1

    Returns
    -------
    Gradients

    Raises
    ------
    ValueError
        If shapes disagree, values are not finite, targets are no positions, or both ``targets`` and
        ``logit_gradients`` are given.

    Examples
    --------
    >>> model = RNN([[0.0]], [1.0], [[1.0], [0.0]])
    >>> gradients(model, [[1.0, 2.0]], logit_gradients=[[1.0, 0.0]]).inputs
    array([[0., 1.]], dtype=float32)
    """
    if not isinstance(model, RNN):
        raise TypeError(f"model must be an RNN, got {type(model).__name__}")
    if targets is not None and logit_gradients is not None:
        raise ValueError("targets and logit_gradients must not both be given")

    def checked(name: str, value: ArrayLike, *shape: int) -> NDArray[np.float32]:
        array = np.asarray(value, np.float32)
        if array.ndim != len(shape) or any(s not in (-1, t) for s, t in zip(shape, array.shape, strict=True)):
            wanted = ", ".join("count" if s < 0 else str(s) for s in shape) + ("," if len(shape) == 1 else "")
            raise ValueError(f"{name} must have shape ({wanted}), got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)].flat[0]}")
        return array

    x = checked("x", x, -1, model.seq_len)
    count, outputs = len(x), model.W_oh.shape[0]
    if count == 0:
        raise ValueError("x must have at least one row, got shape (0, ...)")
    if targets is not None:
        targets = checked("targets", targets, count)
        if outputs > 1 and not (np.isin(targets, np.arange(outputs))).all():
            raise ValueError(
                f"targets must be positions from 0 to {outputs - 1}, got {targets.min()} ... {targets.max()}"
            )
    if logit_gradients is not None:
        logit_gradients = checked("logit_gradients", logit_gradients, count, outputs)
    loss, _, flat, inputs = _core.loss_gradient(
        model._network, x, model.task.name, targets, logit_gradients, True, threads
    )
    shapes = {
        name: getattr(model, name).shape
        for name in ("W_hh", "W_hi", "W_oh", "b_h", "b_o")
        if getattr(model, name) is not None
    }
    return Gradients(None if logit_gradients is not None else loss / count, _split(flat / count, shapes), inputs)


def measure(model: RNN, samples: int, key: int, threads: int = 1) -> tuple[float, float]:
    """Accuracy, or mean squared error for the median task, of a network on random inputs, and its standard error.

    Parameters
    ----------
    model : RNN
    samples : int
    key : int
        Of the stream of inputs.
    threads : int, default 1
    """
    if model.task.quantity == "accuracy":
        p = _core.count_correct(model._network, model.task.name, samples, key, 0, threads) / samples
        return p, math.sqrt(p * (1 - p) / samples)
    total, squares = _core.sample_moments(model._network, model.task.name, samples, key, 0, threads)
    mean = total / samples
    return mean, math.sqrt(max(0.0, squares / samples - mean**2) / samples)
