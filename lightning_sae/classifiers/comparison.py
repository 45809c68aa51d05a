"""The comparison of text prompts with linear probes, and its findings."""

from typing import NamedTuple

import pandas as pd


class ProbeComparison(NamedTuple):
    """A comparison of prompts and of probes of growing bias.

    Attributes:
        table: a row per classifier, the prompts first, then the probes by their share of biased images.
    """

    table: pd.DataFrame

    def sentence(self) -> str:
        """Return what was found in one line: the prompts, the least biased probe, and the most biased one."""
        prompt, least, most = (self.table.iloc[row] for row in (0, 1, -1))
        parts = [
            f"{title} {prompt[key]:.0%}, {least[key]:.0%}, {most[key]:.0%}".replace("%", " %")
            for key, title in {
                "culprit_share": "driven by the paired value",
                "worst_group": "worst group",
                "accuracy": "right",
            }.items()
        ]
        names = f"prompts, a probe at {100 * least['share']:g} %, one at {100 * most['share']:g} %"
        return f"{names}: {'; '.join(parts)}"
