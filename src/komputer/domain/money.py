"""US dollars: exact where they are added, bounded where they come in. Pure.

Claude counts in binary fractions, so that a difference of two totals has digits which nobody paid for
(0.0006659999999999999). Here an amount is a decimal number of at most 12 fraction digits and 15 digits in all, which a
binary fraction holds without loss.
"""

from decimal import Context, Decimal
from typing import Final

COST_LIMIT_USD: Final = 100_000
"""Of one task. More than a task can cost: at a hundred tokens a second the dearest model takes years to it."""
PLACES: Final = Decimal("0.000000000001")
_DIGITS: Final = Context(prec=15)
_EXACT: Final = Context(prec=60)


def amount(value: object) -> Decimal:
    """Of a number, from wherever it comes: 0 for what is no amount of money or negative, at most `COST_LIMIT_USD`."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return Decimal(0)
    found = Decimal(str(value)) if isinstance(value, float) else Decimal(value)
    if not found.is_finite() or found <= 0:
        return Decimal(0)
    if found >= COST_LIMIT_USD:
        return Decimal(COST_LIMIT_USD)
    return _EXACT.quantize(_DIGITS.create_decimal(found), PLACES).normalize(_EXACT)


def number(exact: Decimal) -> float:
    """As JSON has it."""
    return float(exact)


def added(one: Decimal, other: Decimal) -> Decimal:
    """Without loss; also of a total, which has no limit."""
    return _EXACT.add(one, other)


def text(exact: Decimal) -> str:
    """A decimal string: at least four fraction digits, no more than it needs."""
    short = exact.normalize(_EXACT)
    exponent = short.as_tuple().exponent
    return f"{short if isinstance(exponent, int) and exponent < -4 else _EXACT.quantize(short, Decimal('0.0001')):f}"
