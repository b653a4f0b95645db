"""RNN, LSTM and GRU, as PyTorch calls them."""

from typing import Any

from minirnn.layers.recurrent import Recurrent


class RNN(Recurrent):
    """`torch.nn.RNN`: ``nonlinearity`` is "tanh" or "relu"."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
        bias: bool = True, batch_first: bool = False, dropout: float = 0.0,
        bidirectional: bool = False, **options: Any,
    ) -> None:  # fmt: skip
        names = {"tanh": "rnn", "relu": "rnn_relu", "logistic": "rnn_logistic"}
        if nonlinearity not in names:
            raise ValueError(
                f"RNN: nonlinearity must be one of {', '.join(names)}, got {nonlinearity!r}"
            )
        super().__init__(
            names[nonlinearity], input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, **options,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """Show the sizes."""
        return super().extra_repr().split(", ", 1)[1]


class LSTM(Recurrent):
    """`torch.nn.LSTM`."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            "lstm", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            **options,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """Show the sizes."""
        return super().extra_repr().split(", ", 1)[1]


class GRU(Recurrent):
    """`torch.nn.GRU`, and the GRU of the papers.

    ``reset``: "after" (PyTorch) or "before" the recurrent product of the candidate, or "none";
    ``update``: z keeps ("keep", PyTorch) or writes ("write").
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
        *, reset: str = "after", update: str = "keep", **options: Any,
    ) -> None:  # fmt: skip
        if reset not in ("after", "before", "none") or update not in ("keep", "write"):
            raise ValueError(
                "GRU: reset must be 'after', 'before' or 'none' and update 'keep' or 'write', got "
                f"{reset!r} and {update!r}"
            )
        name = "gru" + ("" if reset == "after" else f"_{reset}")
        super().__init__(
            name + ("_write" if update == "write" else ""), input_size, hidden_size, num_layers,
            bias, batch_first, dropout, bidirectional, **options,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """Show the sizes."""
        return super().extra_repr().split(", ", 1)[1]
