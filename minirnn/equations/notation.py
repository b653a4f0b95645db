"""Expressions as text in the cell language, and as LaTeX."""

from dataclasses import dataclass, field

from minirnn.equations.symbols import Symbol, const

# How tightly an expression holds together; an operand that holds less is put in brackets.
COMPARED, ADDED, NEGATED, MATRIX, MULTIPLIED, POWER, ATOM = range(7)


@dataclass(frozen=True)
class Text:
    """The notation of the cell language.

    ``operand`` maps a block to the vector that it is multiplied with: ``("u", k)`` leaves are
    written with it.
    """

    operand: dict[str, Symbol] = field(default_factory=dict)

    times, scaled, less_equal, modulo = " * ", " * ", "<=", "%"

    def write(self, node: Symbol) -> str:
        """Return the expression as one line."""
        return self._write(node)[0]

    def at(self, node: Symbol, strength: int) -> str:
        """Return the expression as an operand that must hold this tightly."""
        text, own = self._write(node)
        return text if own >= strength else self.brackets(text)

    def _write(self, node: Symbol) -> tuple[str, int]:
        op, args = node.op, node.args
        if op == "const":
            return self.number(args[0]), ATOM if args[0] >= 0 else NEGATED
        if op == "leaf":
            return self.leaf(*args)
        if op in ("add", "sub"):
            return self._sum(node)
        if op == "neg":
            return f"-{self.at(args[0], MATRIX)}", NEGATED
        if op == "mul":
            return self._product(node)
        if op == "div":
            return self.quotient(*args)
        if op == "pow":
            return self.power(*args), POWER
        if op in ("lt", "le"):
            sign = "<" if op == "lt" else self.less_equal
            return f"{self.at(args[0], ADDED)} {sign} {self.at(args[1], ADDED)}", COMPARED
        if op == "mod":
            return f"{self.write(args[0])} {self.modulo} {self.at(args[1], POWER)}", MULTIPLIED
        if op == "transposed":
            return self.transposed(*args), MATRIX
        return self.function(op, [self.write(a) for a in node.operands]), ATOM

    def _sum(self, node: Symbol) -> tuple[str, int]:
        """Write a chain of terms; equal ones once, with their number in front."""
        terms: dict[Symbol, int] = {}
        stack = [(node, 1)]
        while stack:
            n, sign = stack.pop()
            if n.op in ("add", "sub"):
                stack += [(n.args[1], sign if n.op == "add" else -sign), (n.args[0], sign)]
            else:
                terms[n] = terms.get(n, 0) + sign
        text = ""
        for n, count in terms.items():
            term = n if abs(count) == 1 else Symbol("mul", const(float(abs(count))), n)
            part, strength = self._write(term)
            negative = (count < 0) != (strength == NEGATED)
            part = part[1:] if strength == NEGATED else part
            part = self.brackets(part) if strength < NEGATED else part
            if text:
                text += " - " if negative else " + "
            elif negative:
                text = "-"
            text += part
        return text, ADDED

    def _product(self, node: Symbol) -> tuple[str, int]:
        """Write a chain of factors; equal ones as a power, numbers and signs in front."""
        factors: dict[Symbol, int] = {}
        number, stack = 1.0, [node]
        while stack:
            n = stack.pop()
            if n.op == "mul":
                stack += reversed(n.args)
            elif n.op == "neg":
                number, stack = -number, [*stack, n.args[0]]
            elif n.op == "const":
                number *= n.args[0]
            else:
                factors[n] = factors.get(n, 0) + 1
        parts = [
            self.at(n, MULTIPLIED) if count == 1 else self.power(n, float(count))
            for n, count in factors.items()
        ]
        text = self.times.join(parts)
        if abs(number) != 1.0:
            text = f"{self.number(abs(number))}{self.scaled}{text}"
        if number < 0:
            return f"-{text}", NEGATED
        return text, POWER if len(parts) == 1 and number == 1.0 else MULTIPLIED

    # What another notation does otherwise.

    def number(self, value: float) -> str:
        """Write a number."""
        return f"{value:g}"

    def brackets(self, text: str) -> str:
        """Put brackets around."""
        return f"({text})"

    def leaf(self, kind: str, name: str) -> tuple[str, int]:
        """Write a named value, something given, a product, or a derivative."""
        if kind == "d":
            of, _, rest = name.partition(".")
            return f"d{rest if of == 'v' else name}", ATOM
        if kind == "u":
            return f"u.{name} @ {self.at(self.operand[name], ATOM)}", MATRIX
        return name if kind in ("v", "time") else f"{kind}.{name}", ATOM

    def transposed(self, block: str, du: Symbol) -> str:
        """Write the product of a vector with a transposed block."""
        return f"u.{block}.T @ {self.write(du)}"

    def power(self, base: Symbol, exponent: float) -> str:
        """Write a power."""
        return f"{self.at(base, ATOM)}**{exponent:g}"

    def quotient(self, a: Symbol, b: Symbol) -> tuple[str, int]:
        """Write a quotient."""
        return f"{self.at(a, MULTIPLIED)} / {self.at(b, POWER)}", MULTIPLIED

    def function(self, op: str, args: list[str]) -> str:
        """Write a function of the cell language."""
        return f"{op}({', '.join(args)})"


_FUNCTIONS = {
    "sigmoid": r"\sigma",
    "tanh": r"\tanh",
    "exp": r"\exp",
    "log": r"\log",
    "maximum": r"\max",
    "minimum": r"\min",
}


class Latex(Text):
    r"""The notation of papers: ``\odot`` for products unit by unit, time as an index.

    It needs the package amsmath.
    """

    times, scaled, less_equal, modulo = r" \odot ", r"\,", r"\le", r"\bmod"

    def number(self, value: float) -> str:
        """Write a number; tiny and huge ones with a power of ten."""
        mantissa, _, exponent = f"{value:g}".partition("e")
        if not exponent:
            return mantissa
        power = f"10^{{{int(exponent)}}}"
        return power if mantissa == "1" else rf"{mantissa} \cdot {power}"

    def brackets(self, text: str) -> str:
        """Put brackets around that grow with what they hold."""
        return rf"\left({text}\right)"

    def leaf(self, kind: str, name: str) -> tuple[str, int]:
        """Write a named value, something given, a product, or a derivative."""
        if kind == "d":
            of, _, rest = name.partition(".")
            text, strength = self.leaf(of, rest)
            return rf"\mathrm{{d}}{text if strength == ATOM else self.brackets(text)}", ATOM
        if kind == "wx":
            return f"{latex_name('W', name)} x_t", MATRIX
        if kind == "u":
            return f"{latex_name('U', name)} {self.at(self.operand[name], ATOM)}", MATRIX
        if kind == "time":
            return "t", ATOM
        if kind == "p":
            return latex_name(name), ATOM
        if kind == "below":
            return latex_name(name, "t", above=r"\downarrow"), ATOM
        return latex_name(name, "t-1" if kind == "prev" else "t"), ATOM

    def transposed(self, block: str, du: Symbol) -> str:
        """Write the product of a vector with a transposed block."""
        return rf"{latex_name('U', block)}^{{\top}} {self.write(du)}"

    def power(self, base: Symbol, exponent: float) -> str:
        """Write a power."""
        text, strength = self._write(base)
        if strength < ATOM or base.op in ("div", "rsqrt"):
            text = self.brackets(text)
        return f"{{{text}}}^{{{exponent:g}}}"

    def quotient(self, a: Symbol, b: Symbol) -> tuple[str, int]:
        """Write a quotient."""
        return rf"\frac{{{self.write(a)}}}{{{self.write(b)}}}", ATOM

    def function(self, op: str, args: list[str]) -> str:
        """Write a function of the cell language."""
        if op == "sqrt":
            return rf"\sqrt{{{args[0]}}}"
        if op == "rsqrt":
            return rf"\frac{{1}}{{\sqrt{{{args[0]}}}}}"
        if op == "abs":
            return rf"\left|{args[0]}\right|"
        if op == "where":
            condition, a, b = args
            rows = rf"{a} & \text{{if }} {condition} \\ {b} & \text{{otherwise}}"
            return rf"\left\{{\begin{{array}}{{ll}} {rows} \end{{array}}\right."
        name = _FUNCTIONS.get(op, rf"\operatorname{{{op}}}")
        return rf"{name}{self.brackets(', '.join(args))}"


def latex_name(name: str, *indices: str, above: str = "") -> str:
    """Write a name of a cell: ``p_i`` gets an index, i2 a number above, ``h_gate`` a tilde."""
    letters, *parts = name.removesuffix("_gate").split("_")
    parts += [part for index in indices for part in index.split("_")]
    body = letters.rstrip("0123456789") or letters
    number = letters[len(body) :]
    body = rf"\mathrm{{{body}}}" if len(body) > 1 else body
    if name.endswith("_gate"):
        body = rf"\tilde{{{body}}}"
    above = above or (f"({number})" if number else "")
    below = ",".join(rf"\mathrm{{{p}}}" if len(p) > 1 and p.isalnum() else p for p in parts if p)
    return body + (f"^{{{above}}}" if above else "") + (f"_{{{below}}}" if below else "")
