"""What the demo trains: small enough for a laptop, hard enough that clipping matters."""

from dataclasses import dataclass
from math import inf, isfinite

from diagnostics.quantities.arguments import whole_number

CELLS = ("rnn", "lstm", "gru")
STARTS = ("orthogonal", "identity", "chrono", "uniform")


@dataclass(frozen=True)
class Settings:
    """Settings of the six runs.

    Plain gradient descent with a large rate is used on purpose: it is where clipping does its
    work.  (Adam divides by a running norm and hides most of it.)  need_lag: about a line of code;
    verdicts are about gradients that have to travel that far.

    Remedies to try: start, of `STARTS`; forget_bias, of LSTM and GRU, None for 1 in LSTM alone;
    omega, the weight of Pascanu's regulariser in the vanilla network; flossing, how many steps of
    gradient flossing come before training.
    """

    text: str | None = None
    seed: int = 0
    training_steps: int = 400
    steps: int = 128
    batch: int = 16
    hidden_size: int = 128
    embedding_size: int = 32
    learning_rate: float = 4.0
    max_norm: float = 0.5
    need_lag: int = 40
    sample_length: int = 400
    temperature: float = 0.7
    record_every: int = 5
    unseen_sequences: int = 32
    start: str = "orthogonal"
    forget_bias: float | None = None
    omega: float = 0.0
    flossing: int = 0

    def __post_init__(self) -> None:
        for name in ("training_steps", "steps", "batch", "hidden_size"):
            whole_number("demo", name, getattr(self, name), 1)
        for name in ("seed", "flossing"):
            whole_number("demo", name, getattr(self, name))
        if not 0 <= self.need_lag < self.steps:
            raise ValueError(
                f"demo: need_lag must lie in 0 to steps - 1 = {self.steps - 1}, got {self.need_lag}"
            )
        for name in ("learning_rate", "max_norm"):
            if not 0 < getattr(self, name) < inf:
                raise ValueError(
                    f"demo: {name} must be finite and above 0, got {getattr(self, name)}"
                )
        if not 0 <= self.omega < inf:
            raise ValueError(f"demo: omega must be finite and 0 or more, got {self.omega}")
        if self.forget_bias is not None and not isfinite(self.forget_bias):
            raise ValueError(f"demo: forget_bias must be finite, got {self.forget_bias}")
        if self.start not in STARTS:
            raise ValueError(f"demo: start must be one of {', '.join(STARTS)}, got {self.start!r}")
        if self.start == "chrono" and self.forget_bias is not None:
            raise ValueError(
                f"demo: chrono chooses the forget bias itself, got {self.forget_bias} too; "
                "leave one out"
            )

    def table(self, corpus: str) -> dict[str, str]:
        """Return the settings as a reader wants them."""
        return {
            "text": corpus,
            "task": "predict the next character; truncated backpropagation with carried state",
            "model": (
                f"Embedding({self.embedding_size}), one recurrent layer of {self.hidden_size} "
                "units, Linear; float32"
            ),
            "start": self._start(),
            "training": (
                f"{self.training_steps} steps of {self.batch} sequences of {self.steps} "
                f"characters; SGD, learning rate {self.learning_rate:g} to a tenth of it over the "
                "second half"
            ),
            "measured": (
                f"on sequences that no run was trained on, T={self.steps}, "
                f"B={self.unseen_sequences}, I={self.embedding_size}"
            ),
            "judged": f"gradients over {self.need_lag} steps, about a line of code",
            "clipping": f"norm of all gradients at {self.max_norm:g}, or off",
            **self._remedies(),
            "seed": str(self.seed),
        }

    def _start(self) -> str:
        blocks = "orthogonal" if self.start == "chrono" else self.start
        words = [] if self.start == "uniform" else [f"{blocks} recurrent blocks"]
        if self.start == "chrono":
            words.append(f"chrono biases up to {self.steps} steps for LSTM and GRU")
        elif self.forget_bias is not None:
            words.append(f"forget bias {self.forget_bias:g} for LSTM and GRU")
        else:
            words.append("forget bias 1 for LSTM")
        return "; ".join([*words, "else as in PyTorch"])

    def _remedies(self) -> dict[str, str]:
        tried = {}
        if self.omega:
            tried["Omega"] = f"{self.omega:g} times, in the vanilla network"
        if self.flossing:
            tried["flossing"] = f"{self.flossing} steps before training"
        return tried


def variants(settings: Settings) -> list[tuple[str, str, float | None]]:
    """Name the runs: (name, cell, clipping threshold or None)."""
    runs: list[tuple[str, str, float | None]] = []
    for cell in CELLS:
        runs.append((f"{cell}, clipped", cell, settings.max_norm))
        runs.append((f"{cell}, unclipped", cell, None))
    return runs
