"""Module: what holds parameters, and other modules, by name."""

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minirnn.engine import Tensor, random
from minirnn.engine.dual import tensor
from minirnn.engine.tape import wrote


class Module:
    """Base of everything that has parameters.

    Attributes that are Tensors or Modules register by being set; their names, joined by dots,
    are the names of the parameters. Own parameters come first and then those of the modules
    inside, each in the order in which they were set. Two kinds of Tensor do not register: one
    whose name begins with an underscore, and one that is no leaf or shows the memory of another
    (a state that was kept, say). Modules in a list do not register; put them in a Sequential.

    A subclass writes ``forward``; calling the module calls it.
    """

    training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's output; every subclass has its own."""
        raise NotImplementedError(
            f"{type(self).__name__}: a Module needs a method forward to be called"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run ``forward``."""
        return self.forward(*args, **kwargs)

    # ------------------------------------------------------------------ what is inside

    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        """Yield the modules that are attributes of this one."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self) -> Iterator[tuple[str, "Module"]]:
        """Yield this module, under the name "", and all modules inside, each once."""
        seen: set[int] = set()
        waiting: list[tuple[str, Module]] = [("", self)]
        while waiting:
            name, module = waiting.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield name, module
            children = [(_join(name, child), m) for child, m in module.named_children()]
            waiting.extend(reversed(children))

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the parameters by dotted name; one with several names comes under its first."""
        seen: set[int] = set()
        for name, parameter in self._named_tensors():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    def parameters(self) -> Iterator[Tensor]:
        """Yield the parameters, each once, in the order of ``named_parameters``."""
        # In one pass and without the names, because every training step asks for them.
        seen: set[Tensor | Module] = set()
        waiting: list[Module] = [self]
        while waiting:
            module = waiting.pop()
            if module in seen:
                continue
            seen.add(module)
            inside = []
            for name, value in vars(module).items():
                if isinstance(value, Tensor):
                    if value not in seen and _registers(name, value):
                        seen.add(value)
                        yield value
                elif isinstance(value, Module):
                    inside.append(value)
            waiting.extend(reversed(inside))

    def named_generators(self) -> Iterator[tuple[str, np.random.Generator]]:
        """Yield the random generators that modules inside keep (a seeded Dropout has one)."""
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, np.random.Generator):
                    yield _join(prefix, name), value

    def _named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every name of every parameter: one used in two places has two."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor) and _registers(name, value):
                yield name, value
        for child_name, child in self.named_children():
            for name, parameter in child._named_tensors():
                yield _join(child_name, name), parameter

    # ------------------------------------------------------------------ saving and loading

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return copies of all parameters by name."""
        return {name: parameter.numpy().copy() for name, parameter in self._named_tensors()}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> tuple[list[str], list[str]]:
        """Write arrays into the parameters of the same names, cast to the parameters' dtypes.

        Parameters
        ----------
        state_dict : mapping from names to arrays, or to anything with ``__array__``
        strict : bool
            With True a name that is missing or too many is a ValueError. A wrong shape always is.

        Returns
        -------
        missing_keys, unexpected_keys : lists of names

        Nothing is changed when an error is raised.
        """
        writes, missing, unexpected = self.plan_load(state_dict, strict)
        for parameter, array in writes:
            parameter.assign(array)
        return missing, unexpected

    def plan_load(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> tuple[list[tuple[Tensor, NDArray[Any]]], list[str], list[str]]:
        """Check all that ``load_state_dict`` would write, and write nothing.

        Returns the pairs (parameter, array) still to be assigned, missing and unexpected names.
        """
        place = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"{place}: state_dict must map names to arrays, got {type(state_dict).__name__}"
            )
        own = dict(self._named_tensors())
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        if strict and (missing or unexpected):
            raise ValueError(
                f"{place}: the names must be those of the parameters; missing {missing}, "
                f"unexpected {unexpected}; strict=False loads the names that fit"
            )
        writes = []
        for name, parameter in own.items():
            if name in state_dict:
                array = _loadable(f"{place}: {name}", state_dict[name], parameter)
                self._holder(name).check_loaded(name.rpartition(".")[2], array)
                writes.append((parameter, array))
        return writes, missing, unexpected

    def check_loaded(self, name: str, array: NDArray[Any]) -> None:
        """Raise ValueError when this module's parameter ``name`` may not hold ``array``.

        For modules whose parameters obey a rule beyond their shape, such as blocks of zeros.
        """

    def _holder(self, dotted_name: str) -> "Module":
        """Return the module inside whose own attribute the dotted name is."""
        module = self
        for part in dotted_name.split(".")[:-1]:
            module = vars(module)[part]
        return module

    # ------------------------------------------------------------------ modes

    def train(self, mode: bool = True) -> Self:
        """Set training mode here and in all modules inside (Dropout acts only in it)."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Leave training mode."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, dtype: DTypeLike) -> Self:
        """Cast all parameters to float32 or float64; gradients are forgotten."""
        wanted = np.dtype(dtype)
        if wanted not in (np.float32, np.float64):
            raise TypeError(
                f"{type(self).__name__}.to: dtype must be float32 or float64, got {wanted}"
            )
        for parameter in self.parameters():
            parameter._data = parameter._data.astype(wanted)
            parameter.grad = None
            wrote(parameter)
        return self

    def __repr__(self) -> str:
        inside = [f"  ({name}): {_indented(repr(m))}" for name, m in self.named_children()]
        head = f"{type(self).__name__}({self.extra_repr()}"
        return head + ("\n" + "\n".join(inside) + "\n)" if inside else ")")

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return ""


def module_rng(seed: int | np.random.Generator | None) -> np.random.Generator:
    """Return the generator that a module draws from: its own for a seed, else the global one."""
    return random.generator() if seed is None else np.random.default_rng(seed)


def _registers(name: str, value: Tensor) -> bool:
    """Whether a tensor that is an attribute is a parameter."""
    return not name.startswith("_") and owns_memory(value)


def owns_memory(value: Tensor) -> bool:
    """Whether a tensor is a leaf with its own memory: what can be a parameter."""
    return value._vjp is None and value._base is None


def checked_input(place: str, x: Any, parameter: Tensor | None = None) -> Tensor:
    """Return a layer's input as a Tensor of the dtype of its parameters."""
    x = tensor(x, place, "x")
    if parameter is not None and x.dtype != parameter.dtype:
        raise TypeError(
            f"{place}: x must have the dtype of the parameters, {parameter.dtype}, got {x.dtype}; "
            f"convert one of them, with x.astype or with the layer's to({x.dtype})"
        )
    return x


def positive(place: str, name: str, value: int) -> int:
    """Return a size as an int of at least 1, or say what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{place}: {name} must be an integer, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{place}: {name} must be at least 1, got {value}")
    return int(value)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")


def _loadable(place: str, value: Any, parameter: Tensor) -> NDArray[Any]:
    """Return ``value`` as an array of the parameter's shape and dtype, or say why not."""
    array = np.asarray(value.numpy() if isinstance(value, Tensor) else value)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{place}: must be an array of real numbers, got dtype {array.dtype}")
    if array.shape != parameter.shape:
        raise ValueError(f"{place}: must have shape {parameter.shape}, got {array.shape}")
    return np.ascontiguousarray(array, dtype=parameter.dtype)
