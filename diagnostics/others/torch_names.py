"""What PyTorch calls the tensors of its recurrent modules, and what the names say of a module."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# weight_ih_l0, bias_hh_l1_reverse; the modules of one step, LSTMCell and its like, have no level.
_NAME = re.compile(r"(?:weight|bias)_(?:ih|hh|hr)(?:_l(?P<level>\d+)(?P<reverse>_reverse)?)?")
SHOWN = 8  # names in a message


@dataclass(frozen=True)
class Structure:
    """What the names of a module's tensors say.

    bare: no levels in the names, as in LSTMCell.  projected: it has a ``proj_size``.
    """

    num_layers: int
    bidirectional: bool
    bias: bool
    bare: bool
    projected: bool

    def __str__(self) -> str:
        levels = "1 level" if self.num_layers == 1 else f"{self.num_layers} levels"
        ways = "both directions" if self.bidirectional else "one direction"
        return f"{levels}, {ways}, with{'' if self.bias else 'out'} biases"

    def torch_name(self, name: str) -> str:
        """Spell a parameter's name of ours as the file does."""
        return name.removesuffix("_l0") if self.bare else name


def recurrent_names(names: Iterable[str]) -> dict[str, list[str]]:
    """Group the names of recurrent tensors by the prefix before them, which ends with its dot."""
    found: dict[str, list[str]] = {}
    for name in names:
        head, dot, tail = name.rpartition(".")
        if _NAME.fullmatch(tail):
            found.setdefault(head + dot, []).append(tail)
    return found


def structure_of(tails: Iterable[str]) -> Structure:
    """Read levels, directions and biases off the names of one module's tensors."""
    matches = [match for match in map(_NAME.fullmatch, tails) if match]
    levels = [match["level"] for match in matches]
    return Structure(
        num_layers=1 + max(int(level or 0) for level in levels),
        bidirectional=any(match["reverse"] for match in matches),
        bias=any(match[0].startswith("bias") for match in matches),
        bare=all(level is None for level in levels),
        projected=any("_hr" in match[0] for match in matches),
    )


def chosen_prefix(place: str, names: Mapping[str, object], prefix: str | None) -> str:
    """Return the prefix of the recurrent module that is meant; None means the only one.

    Raises
    ------
    ValueError
        There is none, or there are several, or none of this name; the message lists them.
    """
    there = sorted(recurrent_names(names))
    if not there:
        raise ValueError(
            f"{place}: no tensor is named like weight_ih_l0, so there is no LSTM, GRU or RNN of "
            f"PyTorch in it; it has {some(list(names))}"
        )
    choices = f"pass one of these as prefix: {', '.join(repr(p.removesuffix('.')) for p in there)}"
    if prefix is None:
        if len(there) > 1:
            raise ValueError(f"{place}: has several recurrent modules; {choices}")
        return there[0]
    wanted = with_dot(prefix)
    if wanted not in there:
        raise ValueError(f"{place}: no recurrent module is named {prefix!r}; {choices}")
    return wanted


def with_dot(prefix: str) -> str:
    """Return a module's name with the dot that joins it to a tensor's; the root has none."""
    return prefix if not prefix or prefix.endswith(".") else f"{prefix}."


def some(names: Sequence[str]) -> str:
    """List the first few names."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "no tensors at all"
