"""Pages that an account of a cell is written on: plain text, or LaTeX."""

from collections.abc import Iterable

from minirnn.equations.notation import ATOM, Latex, Text, latex_name
from minirnn.equations.symbols import Symbol, leaf

Rows = Iterable[tuple[str, str]]


class TextPage:
    """A page of plain text.  ``operand``: block -> the vector that it is multiplied with."""

    notation: type[Text] = Text
    grows = "+="

    def __init__(self, operand: dict[str, Symbol]) -> None:
        self.operand = operand
        self.write = self.notation(operand)
        self.parts: list[str] = []

    def text(self) -> str:
        """Return the page."""
        return "\n".join(self.parts) + "\n"

    # Layout

    def title(self, name: str) -> None:
        """Begin the page."""
        self.parts.append(name)

    def heading(self, title: str, note: str) -> None:
        """Begin a section."""
        self.parts.append(f"\n{title} ({note})")

    def equations(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Write equations: left side, sign, right side."""
        self.parts += [f"  {left} {sign} {right}" for left, sign, right in rows]

    def items(self, rows: Rows) -> None:
        """Write a list: what, and what is said of it."""
        rows = list(rows)
        width = max((len(what) for what, _ in rows), default=0)
        self.parts += [f"  {what:<{width}}  {said}".rstrip() for what, said in rows]

    # Words

    def math(self, text: str) -> str:
        """Return what the notation wrote, as part of a sentence."""
        return text

    def words(self, names: Iterable[str]) -> str:
        """Return names as they are."""
        return " ".join(names)

    def names(self, kind: str, names: Iterable[str]) -> str:
        """Return several leaves of one kind."""
        return " ".join(self.math(self.write.leaf(kind, k)[0]) for k in names)

    def blocks(self, names: Iterable[str]) -> str:
        """Return several blocks of the recurrent matrix."""
        return " ".join(self.math(self.block("u", k)) for k in names)

    def block(self, letter: str, name: str) -> str:
        """Return a block of a matrix."""
        return f"{letter}.{name}"

    def products(self, blocks: Iterable[str]) -> str:
        """Return blocks that are multiplied with one vector, up to that vector."""
        return " ".join(self.block("u", k) for k in blocks) + " @"

    def gradient_of(self, block: str) -> str:
        """Return the gradient of a block of the recurrent matrix."""
        return f"d{self.block('U', block)}"

    def derivative(self, node: Symbol) -> str:
        """Return the derivative by a leaf."""
        return self.write.leaf("d", f"{node.args[0]}.{node.args[1]}")[0]

    def weight_gradient(self, letter: str, v: Symbol | None) -> str:
        """Return the gradient of any block k of W or U; v: what a block of U multiplies."""
        kind = "wx" if v is None else "u"
        any_block = type(self)({} if v is None else {"k": v})
        d = any_block.derivative(leaf(kind, "k"))
        factor = "x_t" if v is None else any_block.write.at(v, ATOM)
        return self.math(self.outer_products(self.block(letter, "k"), d, factor))

    def outer_products(self, matrix: str, d: str, v: str) -> str:
        """Return the gradient of a matrix as the sum that it is."""
        return f"d{matrix} = sum of {d} {v}^T"


class LatexPage(TextPage):
    """A fragment of LaTeX that needs amsmath."""

    notation = Latex
    grows = r"\mathrel{+}="

    def title(self, name: str) -> None:
        """Begin the page."""
        self.parts.append(f"\\section*{{{self.words([name])}}}")

    def heading(self, title: str, note: str) -> None:
        """Begin a section."""
        self.parts.append(f"\n\\paragraph{{{title}}} ({note})")

    def equations(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Write equations: left side, sign, right side."""
        body = " \\\\\n".join(f"  {left} &{sign} {right}" for left, sign, right in rows)
        self.parts += [r"\begin{align*}", body, r"\end{align*}"] if body else []

    def items(self, rows: Rows) -> None:
        """Write a list: what, and what is said of it."""
        body = [f"  \\item {what}: {said}" if said else f"  \\item {what}" for what, said in rows]
        self.parts += [r"\begin{itemize}", *body, r"\end{itemize}"] if body else []

    def math(self, text: str) -> str:
        """Return what the notation wrote, as part of a sentence."""
        return f"${text}$"

    def words(self, names: Iterable[str]) -> str:
        """Return names as they are; an underscore would begin an index."""
        return " ".join(names).replace("_", r"\_")

    def block(self, letter: str, name: str) -> str:
        """Return a block of a matrix."""
        return latex_name(letter.upper(), name)

    def products(self, blocks: Iterable[str]) -> str:
        """Return blocks that are multiplied with one vector, up to that vector."""
        return rf"({', '.join(self.block('u', k) for k in blocks)})\,"

    def gradient_of(self, block: str) -> str:
        """Return the gradient of a block of the recurrent matrix."""
        return rf"\mathrm{{d}}{self.block('U', block)}"

    def outer_products(self, matrix: str, d: str, v: str) -> str:
        """Return the gradient of a matrix as the sum that it is."""
        return rf"\mathrm{{d}}{matrix} = \sum_t {d}\,{{{v}}}^{{\top}}"
