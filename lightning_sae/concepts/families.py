"""Parents of the values of a factor: families that are named beside the data."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Factor = tuple[Sequence[str], Tensor]


def family_factors(
    factors: Mapping[str, Factor], families: Mapping[str, Mapping[str, Sequence[str]]]
) -> dict[str, Factor]:
    """Return a factor `FACTOR_family` for each factor with families, -1 for a value without family.

    Args:
        factors: factor -> its values, and the value `[n]` of each image, -1 for none.
        families: factor -> family -> values of the factor.

    Raises:
        ValueError: a factor or a value that there is not, or a value in two families.

    Example:
        >>> known = {"class": (["sun", "snow", "club"], torch.tensor([2, 0, 1, -1]))}
        >>> family_factors(known, {"class": {"weather": ["sun", "snow"]}})
        {'class_family': (['weather'], tensor([-1,  0,  0, -1]))}
    """
    return {f"{name}_family": _family_factor(name, factors, parts) for name, parts in families.items()}


def _family_factor(name: str, factors: Mapping[str, Factor], families: Mapping[str, Sequence[str]]) -> Factor:
    if name not in factors:
        raise ValueError(f"families are of a known factor, one of {', '.join(factors)}; got {name!r}")
    values, truth = factors[name]
    family = torch.full((len(values) + 1,), -1)  # the last place is for images without the factor
    for place, (parent, children) in enumerate(families.items()):
        for child in children:
            if child not in values:
                raise ValueError(f"family {parent!r}: {name} has no value {child!r}, but {', '.join(values)}")
            if family[values.index(child)] >= 0:
                raise ValueError(f"family {parent!r}: {child!r} is in another family of {name} as well")
            family[values.index(child)] = place
    return [*families], family.to(truth.device)[truth]
