"""What the terminal shows while the demo trains; all of it on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Display:
    """A bar per run in a terminal, a line per run elsewhere."""

    def __init__(self, training_steps: int) -> None:
        self._console = Console(stderr=True)
        self._training_steps = training_steps
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    @contextmanager
    def run(self, name: str) -> Iterator[Callable[[int, float, float], None]]:
        """Show a run while it trains; gives the function to call after every step."""
        task = self._progress.add_task(
            f"{name:<16}", total=self._training_steps, status="compiling kernels"
        )

        def tick(step: int, loss: float, norm: float) -> None:
            status = f"loss {loss:5.2f}  norm {norm:.2g}"
            self._progress.update(task, completed=step, status=status)

        yield tick

    def finished(self, name: str, loss: float, stopped: str) -> None:
        """Say how a run ended, where no bar says it."""
        if not self._console.is_terminal:
            note = f"; {stopped}" if stopped else ""
            self._console.print(f"{name}: loss {loss:.3f}{note}", highlight=False)
