"""What is measured: shapes, each with its reason, and the cells that run at each."""

from dataclasses import dataclass

TORCH_CELLS = ("rnn", "gru", "lstm")  # PyTorch has a layer for these
QUICK_CELLS = ("gru", "lstm")
TWO_STAGE = "gru_before"  # a product of something computed inside the step
USERS = "users_peephole"  # written as equations in bench/cells.py
ALL = (*TORCH_CELLS, TWO_STAGE, USERS)
FLOAT32, FLOAT64 = "float32", "float64"


@dataclass(frozen=True)
class Shape:
    """Sizes of a layer and its input: steps, batch, inputs, units; and why they are measured."""

    T: int
    B: int
    I: int  # noqa: E741 (the letter of the house for the input size)
    H: int
    reason: str
    cells: tuple[str, ...] = TORCH_CELLS
    dtypes: tuple[str, ...] = (FLOAT32,)
    inference: bool = False
    quick: bool = False

    @property
    def label(self) -> str:
        """Return the sizes as they stand in the names of groups."""
        return f"T{self.T} B{self.B} I{self.I} H{self.H}"


_BOTH = (FLOAT32, FLOAT64)

SHAPES = (
    # One or two sequences: online learning, evaluation, sampling.
    Shape(100, 1, 64, 64, "one sequence, a small layer: what a step costs around its arithmetic",
          inference=True, quick=True),
    Shape(100, 1, 128, 256, "one sequence: the LSTM's U is 1 MB, read once per step", ALL,
          inference=True),
    Shape(50, 1, 512, 512, "one sequence: the LSTM's U is 4 MB, more than a core's own cache"),
    Shape(100, 2, 256, 256, "two sequences: every weight that is read is used twice"),
    # Odd sizes: no multiple of a vector, a tile or a cache line.
    Shape(100, 3, 37, 96, "odd: three rows, inputs that fill no vector", dtypes=_BOTH),
    Shape(50, 7, 128, 200, "odd: seven rows, units that leave half a vector", ALL, quick=True),
    Shape(100, 20, 64, 50, "odd: 50 units leave 14 of 64 lanes empty"),
    Shape(35, 20, 650, 650, "the medium language model of Zaremba et al. (2014)"),
    Shape(28, 129, 77, 131, "odd in everything"),
    # Small layers, some sequences: most of what is written with recurrent networks.
    Shape(100, 16, 16, 16, "the smallest layer: one vector of units"),
    Shape(50, 4, 64, 128, "few rows, everything in the second-level cache"),
    Shape(50, 16, 64, 128, "the text model of `make report`", ALL, _BOTH, inference=True,
          quick=True),
    Shape(100, 20, 64, 64, "a batch of 20, as in the lecture's exercises"),
    Shape(100, 32, 128, 256, "a usual batch, a usual layer", ALL, _BOTH, inference=True),
    Shape(200, 16, 40, 320, "speech: 40 filters, 320 units, 2 s of frames"),
    Shape(10, 32, 64, 128, "the shortest sequence: what a call costs around its steps"),
    # Long sequences: nothing may grow with T.
    Shape(1000, 8, 64, 128, "1000 steps: time per step must not grow with T", inference=True),
    Shape(400, 32, 64, 256, "400 steps of a usual batch"),
    # Large layers and batches: near the peak or not.
    Shape(50, 64, 512, 512, "the large layer of the acceptance: share of the peak", ALL,
          inference=True, quick=True),
    Shape(20, 64, 1024, 1024, "the largest: the LSTM's U is 16 MB"),
    Shape(25, 128, 256, 256, "a large batch"),
    Shape(28, 256, 28, 128, "rows of 28 x 28 pictures, the largest batch", inference=True),
    Shape(10, 256, 512, 512, "the largest batch of a large layer", cells=(*TORCH_CELLS, TWO_STAGE)),
    # One size far from the other.
    Shape(50, 64, 1024, 64, "wide input, few units: nearly all of it outside the recurrence"),
    Shape(25, 64, 16, 1024, "few inputs, many units: nearly all of it inside the recurrence"),
)  # fmt: skip

ACCEPTANCE = next(s for s in SHAPES if (s.T, s.B, s.I, s.H) == (50, 64, 512, 512))
