"""How numbers are spelled in texts and pages."""

import math
import re
from typing import Any

MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def short(number: float, digits: int = 2) -> str:
    """Spell a number for a reader: 0.012, 1.2 times a power of ten, NaN, infinity as a sign."""
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "∞" if number > 0 else MINUS + "∞"
    if number == 0:
        return "0"
    mantissa, power = f"{number:.{digits - 1}e}".split("e")
    exponent = int(power)
    if -3 <= exponent < 4:
        text = f"{number:.{max(0, digits - 1 - exponent)}f}"
    elif float(mantissa) == 1.0:
        text = decade(exponent)
    else:
        text = f"{mantissa}{TIMES}{decade(exponent)}"
    return text.replace("-", MINUS)


def decade(exponent: int) -> str:
    """Spell a power of ten with a superscript."""
    return f"10{str(exponent).translate(_SUPERSCRIPT)}"


def with_interval(number: float, ci: Any, digits: int = 2) -> str:
    """Spell a number with its interval: '0.93 [0.92, 0.94]'; without one just the number."""
    if ci is None or any(math.isnan(end) for end in ci):
        return short(number, digits)
    return f"{short(number, digits)} [{short(ci[0], digits)}, {short(ci[1], digits)}]"


def spelled(text: str) -> str:
    """Rewrite numbers like 1e-07 inside a text as a reader wants them."""
    return re.sub(r"-?\d+(\.\d+)?e[+-]\d+", lambda match: short(float(match[0])), text)
