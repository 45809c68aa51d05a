"""A measured value and its interval, as an audit records them."""

from typing import Protocol, Self

from pydantic import BaseModel, ConfigDict


class HasInterval(Protocol):
    """Anything with a value and an interval."""

    @property
    def value(self) -> float:
        """The value as it was measured."""
        ...

    @property
    def low(self) -> float:
        """Lower end."""
        ...

    @property
    def high(self) -> float:
        """Upper end."""
        ...


class AuditRecord(BaseModel):
    """A part of `audit.json`: it cannot be changed, and has no other keys than those it names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)  # JSON has no NaN


class Estimate(AuditRecord):
    """A value and its 95 % bootstrap interval over images.

    Attributes:
        value: as measured.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, measured: HasInterval) -> Self:
        """Return the record of what was measured."""
        return cls(value=measured.value, low=measured.low, high=measured.high)
