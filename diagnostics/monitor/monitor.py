"""Monitor: diagnostics inside a user's own training loop."""

import logging
import os
import weakref
from collections import deque
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np

import minirnn
from diagnostics.measuring import LEVELS
from diagnostics.monitor.account import report_of_run
from diagnostics.monitor.alarms import (
    Alarm,
    Lookout,
    place_in_layers,
    place_in_parameters,
    place_of_largest,
    spelled_place,
)
from diagnostics.monitor.board import Board, check_target
from diagnostics.monitor.history import History, checked_clip, loss_of
from diagnostics.monitor.journal import Line, Run
from diagnostics.monitor.measure import Effort, measure, shortened
from diagnostics.monitor.opening import head_of, opened
from diagnostics.monitor.sight import Sight, written
from diagnostics.places import place_table, subject_name
from diagnostics.quantities.arguments import check_path, layers_of_model, whole_number
from diagnostics.quantities.base import encode
from diagnostics.quantities.update_ratio import update_ratio
from diagnostics.quantities.watching import recurrent_layers
from diagnostics.report import Report


class Monitor:
    """Measures how gradients flow in a training loop, every so many steps.

    Call ``step`` once per training step, after ``backward`` and clipping; before or after the
    optimizer's step.  It changes no bit of what is trained, and between measured steps it does
    nothing but note a few numbers.  Use it as a context manager, or call ``close`` at the end::

        with dg.Monitor(model, every=50, path="run.jsonl") as monitor:
            for x, y in batches:
                optimizer.zero_grad()
                loss = minirnn.cross_entropy(model(x), y)
                loss.backward()
                info = minirnn.clip_grad_norm(model.parameters(), 1.0)
                optimizer.step()
                monitor.step(loss, info)
        print(monitor.report())

    Parameters
    ----------
    model : a Module with at least one Recurrent in it
    every : steps 0, every, 2 every ... are measured; and the one after something broke
    level : "cheap": norm of the gradient at every row of every state, its decay rate, gates,
        timescales, numbers that left their range, updates; "standard" adds lag gain with
        intervals, credit and eigenvalues of the recurrence; "full" adds singular values and
        Lyapunov exponents
    path : file of JSON lines, one per measured step; `load_report` and the command line read it
    tensorboard : folder for events of tensorboardX, or a writer with ``add_scalar``
    window : rules look at the last so many steps
    keep : so many measured steps are kept in memory; the file has them all
    resume : append to a file that exists; without it such a file is refused
    start : number of the first step, default 0, or what follows the file's last
    seed : of random vectors; the global generator is left alone

    Raises
    ------
    ValueError
        There is no Recurrent in the model, or an argument is out of range.
    FileExistsError
        ``path`` holds a run already, and ``resume`` was not asked for.
    """

    def __init__(
        self,
        model: Any,
        every: int = 50,
        level: str = "cheap",
        path: str | os.PathLike[str] | None = None,
        tensorboard: Any = None,
        *,
        window: int = 1000,
        keep: int = 1000,
        resume: bool = False,
        start: int | None = None,
        seed: int = 0,
    ) -> None:
        every, window, keep = (
            whole_number("Monitor", name, value, 1)
            for name, value in (("every", every), ("window", window), ("keep", keep))
        )
        seed = whole_number("Monitor", "seed", seed)
        start = start if start is None else whole_number("Monitor", "start", start)
        if level not in LEVELS:
            raise ValueError(f"Monitor: level must be one of {', '.join(LEVELS)}, got {level!r}")
        if path is not None:
            check_path("Monitor", "path", path)
        if tensorboard is not None:
            check_target(tensorboard)
        layers_of_model("Monitor", model)
        self.model, self.every = model, every
        self._effort = Effort(level, seed)
        head = head_of(model, every, level, window, seed)
        self._run = Run(keep=keep)
        self._journal = None if path is None else opened(path, head, resume, self._run)
        self._next = self._run.next_step if start is None else start
        self._board = None if tensorboard is None else Board(tensorboard)
        self._write({"kind": "resume", "step": self._next} if self._run.head else head)
        self._lookout = Lookout()
        self._history = History(self._next)
        self._closed = False
        self._sight: Sight | None = None
        self._before: dict[str, Any] = {}
        self._prepare(self._next % self.every == 0)

    @property
    def steps(self) -> int:
        """Number of the next step: how many there were, if they were counted from 0."""
        return self._next

    @property
    def rows(self) -> list[Line]:
        """The measured steps that are kept in memory, as the file's lines have them."""
        return list(self._run.rows)

    @property
    def first_break(self) -> Alarm | None:
        """What broke first in this run, and where; None if nothing did."""
        broke = min(self._run.alarms, key=lambda line: int(line["step"]), default=None)
        if broke is None:
            return None
        return Alarm(**{k: broke[k] for k in ("step", "what", "evidence", "where")},
                     ratio=float(broke["ratio"]))  # fmt: skip

    def step(self, loss: Any = None, clip_info: Any = None) -> None:
        """Tell that a training step is done.

        Parameters
        ----------
        loss : Tensor or number
        clip_info : what ``clip_grad_norm`` or ``clip_grad_value`` returned
        """
        if self._closed:
            raise RuntimeError(
                "Monitor.step: the monitor is closed; make another, with resume=True"
            )
        value, clip = loss_of(loss), checked_clip(clip_info)
        self._history.note(value, clip)
        layers: dict[str, Any] = {}
        measuring = self._sight is not None
        try:
            if self._sight is not None:
                layers = self._measure(self._sight, clip)
        finally:
            self._put_down()
        alarmed = self._look_out(layers)
        self._next += 1
        if measuring:
            self._history = History(self._next)
        self._prepare(alarmed or self._next % self.every == 0)

    def report(self) -> Report:
        """Make a report of the run so far: timelines, and the rules judged over the window."""
        latest = self._history.line()
        parts = deque([*self._run.parts, *([latest] if latest else [])])
        return report_of_run(replace(self._run, keep=None, parts=parts))

    def close(self, why: str = "closed") -> None:
        """End the file, and take everything off the model.  Closing twice does no harm."""
        if self._closed:
            return
        self._closed = True
        self._put_down()
        self._write({"kind": "end", "since": self._history.line(), "why": why})
        self._history = History(self._next)
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close("closed" if kind is None else f"stopped by {kind.__name__}: {error}")

    def _prepare(self, measuring: bool) -> None:
        """Make ready for the next step, if it is to be measured."""
        if not measuring:
            return
        layers = recurrent_layers(self.model)
        self._sight = Sight(layers, list(self.model.parameters()), self._effort.look)
        # A monitor that is dropped without being closed leaves nothing on the model either.
        self._finalizer = weakref.finalize(self, self._sight.close)
        self._finalizer.atexit = False
        self._before = {
            k: (p.numpy().copy(), p.version)
            for k, p in self.model.named_parameters()
            if p.requires_grad
        }

    def _put_down(self) -> None:
        if self._sight is not None:
            self._finalizer.detach()
            self._sight.close()
        self._sight, self._before = None, {}

    def _measure(self, sight: Sight, clip: Any) -> dict[str, Any]:
        """Measure this step, write its row, and return the row's layers."""
        layers, missing, changed = {}, [], None
        parameters = dict(self.model.named_parameters())
        if clip is None and any(p.grad is not None for p in parameters.values()):
            info = minirnn.clip_grad_norm(list(parameters.values()), np.inf)
            self._history.amend(info.norm, info.nonfinite)
        with np.errstate(all="ignore"):
            for index, (name, layer) in enumerate(recurrent_layers(self.model).items()):
                title = name or type(layer).__name__
                glance = sight.glance(name)
                if glance is None:
                    missing.append(title)
                    continue
                for place, kept in reversed(glance.kept.items()):
                    row = measure(layer, kept, place, self._effort)
                    about = place_table(layer, *place, glance.kept[0, 0])
                    row |= {"place": [index, *place], "about": about}
                    layers[subject_name(title, layer, *place)] = row
                if hasattr(clip, "versions"):
                    changed = written(parameters, glance.versions, clip.versions)
            ratio = self._updates(parameters)
        row = {
            "kind": "step", "step": self._next, "since": self._history.line(), "changed": changed,
            "update_ratio": ratio, "layers": layers, "missing": missing,
        }  # fmt: skip
        self._write(row)
        if self._board is not None:
            self._board.add(row)
        return layers

    def _updates(self, parameters: dict[str, Any]) -> dict[str, Any] | None:
        """Ratios of the update since the last step; None if nothing was written.

        An update too small to change a bit is one, of ratio 0.
        """
        now = {k: p for k, p in parameters.items() if k in self._before}
        if all(p.version == self._before[k][1] for k, p in now.items()):
            return None
        found = update_ratio({k: self._before[k][0] for k in now}, now)
        return dict(zip(found.names, shortened(found.value), strict=True))

    def _look_out(self, layers: dict[str, Any]) -> bool:
        """Note the first step of a kind at which something broke; whether this is one."""
        found = self._lookout.look(*self._history.last)
        where = place_in_layers(layers)
        if found is None and where:
            found = ("nonfinite", "a number inside the recurrence is not finite", float("inf"))
        if found is None or any(line["what"] == found[0] for line in self._run.alarms):
            return False
        what, evidence, ratio = found
        if what == "explosion":
            where = place_of_largest(self.model)
        alarm = Alarm(self._next, what, evidence, where or place_in_parameters(self.model), ratio)
        self._write({"kind": "alarm", **encode(alarm)})
        logging.getLogger("diagnostics").warning(
            "Monitor: training step %d: %s; %s", alarm.step, evidence,
            spelled_place(alarm.where) or "where is not known: measure with every=1",
        )  # fmt: skip
        return True

    def _write(self, line: Line) -> None:
        self._run.take(line)
        if self._journal is not None:
            self._journal.append(line)
