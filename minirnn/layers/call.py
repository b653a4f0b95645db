"""The record of one call of a watched layer."""

from typing import Any

from minirnn.layers.views import View


class Call:
    """The record of one forward pass of a layer: one view per level and direction.

    With one level and direction the record shows its view's mappings itself; otherwise ask for
    ``record[level, direction]``.
    """

    def __init__(self, views: dict[tuple[int, int], View]) -> None:
        self._views = views

    def __getitem__(self, place: tuple[int, int]) -> View:
        if place not in self._views:
            known = ", ".join(str(p) for p in self._views)
            raise KeyError(f"watch: no level and direction {place}; there are {known}")
        return self._views[place]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if not hasattr(View, name) and name not in ("states", "gates", "cell", "lengths"):
            raise AttributeError(f"a watched call has no {name!r}")
        if len(self._views) != 1:
            raise ValueError(
                f"watch: the layer has {len(self._views)} levels and directions; write "
                f"seen[level, direction].{name}"
            )
        (view,) = self._views.values()
        return getattr(view, name)


class Watchers(list[Any]):
    """The open windows onto a layer; copied and pickled as none: nobody watches a copy."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Watchers, ()
