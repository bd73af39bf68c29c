"""Amounts in US dollars: read with a limit, and added without loss. Pure.

Claude reports binary floating-point numbers, so the difference of two totals has digits without meaning
(0.0006659999999999999). Here an amount is a decimal number of at most 12 fraction digits and 15 digits in all, which a
64-bit floating-point number represents without loss.
"""

from decimal import Context, Decimal
from typing import Final

COST_LIMIT_USD: Final = 100_000
"""The highest cost of one task. At a hundred tokens a second the most expensive model takes years to reach it."""
PLACES: Final = Decimal("0.000000000001")
_DIGITS: Final = Context(prec=15)
_EXACT: Final = Context(prec=60)


def amount(value: object) -> Decimal:
    """Return the amount in a value from an untrusted source: 0 for a negative value or one that is not a finite number,
    and at most `COST_LIMIT_USD`."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return Decimal(0)
    found = Decimal(str(value)) if isinstance(value, float) else Decimal(value)
    if not found.is_finite() or found <= 0:
        return Decimal(0)
    if found >= COST_LIMIT_USD:
        return Decimal(COST_LIMIT_USD)
    return _EXACT.quantize(_DIGITS.create_decimal(found), PLACES).normalize(_EXACT)


def number(exact: Decimal) -> float:
    """Return the amount as a number for JSON."""
    return float(exact)


def added(one: Decimal, other: Decimal) -> Decimal:
    """Return the sum, without loss. Totals have no limit."""
    return _EXACT.add(one, other)


def text(exact: Decimal) -> str:
    """Return a decimal string with at least four fraction digits, and no more than needed."""
    short = exact.normalize(_EXACT)
    exponent = short.as_tuple().exponent
    return f"{short if isinstance(exponent, int) and exponent < -4 else _EXACT.quantize(short, Decimal('0.0001')):f}"
