"""The numbers of dictionaries that never trained, measured by the same callbacks as those of the run."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from callbacks.base import Pass, PassCallback, pass_callbacks
from lightning_sae.baselines.comparison import BaselineTable, DictionaryNumbers, compare_with, is_compared
from lightning_sae.baselines.dictionaries import DICTIONARIES, active_latents
from lightning_sae.baselines.module import BaselineModule
from lightning_sae.baselines.other_run import other_run
from lightning_sae.baselines.terms import Terms, image_terms
from lightning_sae.metrics import ImageErrors
from lightning_sae.runs.folder import RunFolder
from lightning_sae.tracking.publish import publish_table, run_dir
from lightning_sae.types import Batch, ValidationOutput

SHUFFLED = "shuffled"


class Baselines(PassCallback):
    """Measures dictionaries that learned nothing by the run's callbacks, and says which numbers beat them.

    These dictionaries are measured in the first validation pass, on its batches, and again only where the
    number of active latents has changed, as it does with variants without a `k`; a resumed run has their
    numbers from its checkpoint. Labels are shuffled over the trained latents in every pass.

    Logged, in every pass:
        baseline/NAME/KEY: the number KEY of the baseline NAME, where KEY has a better direction.

    Writes `baselines.csv`: each number beside each baseline, the interval of the difference, and whether it
    leaves 0 in the better direction (`tells`).

    Attributes:
        measured: name -> what was measured of each dictionary.

    Args:
        dictionaries: which are measured (`lightning_sae.baselines.dictionaries`): `untrained`, `neurons`,
            `components`.
        shuffled: whether labels are shuffled over the latents.
        runs: name -> folder of another run of the same recipe, whose last values are a baseline as well.
        leave_out: names of callbacks that measure no baseline.
        confidence: of the intervals, in (0, 1).
        seed: of the shuffled labels.

    Raises:
        ValueError: a dictionary that there is not, or a confidence out of its range.
    """

    gives = BaselineTable
    logs = ("baseline/*",)

    def __init__(
        self,
        dictionaries: Sequence[str] = ("untrained", "neurons", "components"),
        shuffled: bool = True,
        runs: Mapping[str, str] | None = None,
        leave_out: Sequence[str] = ("faithfulness",),
        confidence: float = 0.95,
        seed: int = 0,
    ) -> None:
        if unknown := [name for name in dictionaries if name not in DICTIONARIES]:
            raise ValueError(f"dictionaries are of {', '.join(DICTIONARIES)}; got {', '.join(unknown)}")
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must be in (0, 1), got {confidence}")
        self.dictionaries, self.shuffled, self.runs = list(dictionaries), shuffled, dict(runs or {})
        self.leave_out, self.confidence, self.seed = list(leave_out), confidence, seed
        self.measured: dict[str, DictionaryNumbers] = {}
        self._k = 0  # active latents of what was measured
        self._running: dict[str, _Measurement] = {}
        self._errors: ImageErrors | None = None
        self._of_runs: dict[str, DictionaryNumbers] = {}

    def check_order(self, trainer: Trainer) -> None:
        """Refuse also a callback listed after this one whose numbers this one should measure.

        Raises:
            ValueError: names it.
        """
        super().check_order(trainer)
        everyone = pass_callbacks(trainer)
        for late in everyone[everyone.index(self) + 1 :]:
            if late.name not in self.leave_out and late.baseline() is not None:
                raise ValueError(
                    f"callbacks.{self.name} measures baselines by callbacks.{late.name}, which comes after "
                    f"it: list {late.name} before, or add it to callbacks.{self.name}.leave_out"
                )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read the other runs."""
        super().setup(trainer, pl_module, stage)
        recipe, config = pl_module.hparams, RunFolder(run_dir(trainer)).config
        self._of_runs = {name: other_run(name, folder, recipe, config) for name, folder in self.runs.items()}

    def begin(self, pass_: Pass) -> None:
        """Make the dictionaries that are not measured yet."""
        k = active_latents(pass_.sae, pass_.data)
        if k != self._k:
            self.measured, self._k = {}, k
        missing = [name for name in self.dictionaries if name not in self.measured]
        self._running = {name: _Measurement(pass_, name, k, self._measuring(pass_)) for name in missing}
        self._errors = ImageErrors(len(pass_.data.judge_embeddings)).to(pass_.module.device)

    def _measuring(self, pass_: Pass) -> list[PassCallback]:
        callbacks = [each for each in pass_callbacks(pass_.trainer) if each.name not in self.leave_out]
        return [fresh for each in callbacks if (fresh := each.baseline()) is not None]

    def _of_turn(self, pass_: Pass) -> list[PassCallback]:
        return [each for each in pass_callbacks(pass_.trainer) if each.had_turn(pass_)]

    def add_batch(self, pass_: Pass, outputs: ValidationOutput) -> None:
        """Encode a batch by each of them."""
        assert self._errors is not None
        self._errors.update(outputs.x, outputs.x_hat, outputs.image_ids)
        for measurement in self._running.values():
            measurement.add(outputs)

    def finish(self, pass_: Pass) -> BaselineTable:
        """Measure what has run, log, and compare."""
        self.measured |= {name: measurement.finish() for name, measurement in self._running.items()}
        self._running = {}
        assert self._errors is not None
        trained = self._trained(pass_, self._errors)
        self._errors = None
        baselines = {name: self.measured[name] for name in self.dictionaries}
        if self.shuffled:
            baselines[SHUFFLED] = self._shuffle(pass_)
        baselines |= self._of_runs
        for name, (numbers, _) in baselines.items():
            pass_.module.log_dict({f"baseline/{name}/{key}": value for key, value in numbers.items()})
        return compare_with(trained, baselines, self.confidence)

    def _trained(self, pass_: Pass, errors: ImageErrors) -> DictionaryNumbers:
        """Return what the callbacks of this pass have found."""
        metrics = pass_.trainer.callback_metrics
        logged = {key: float(value) for key, value in metrics.items() if is_compared(key)}
        return _measured(pass_, logged, self._of_turn(pass_), errors)

    def _shuffle(self, pass_: Pass) -> DictionaryNumbers:
        found = (each.shuffled_terms(pass_, self.seed).items() for each in self._of_turn(pass_))
        terms = {key: term for items in found for key, term in items}
        return DictionaryNumbers({key: term.number for key, term in terms.items()}, terms)

    def report(self, pass_: Pass) -> None:
        """Write the table."""
        publish_table(pass_.trainer, "baselines", pass_[BaselineTable].frame)

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured."""
        kept = {name: (numbers, _plain(terms)) for name, (numbers, terms) in self.measured.items()}
        return {**super().state_dict(), "k": self._k, "measured": kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what was measured."""
        super().load_state_dict(state_dict)
        self._k = state_dict["k"]
        self.measured = {
            name: DictionaryNumbers(numbers, {key: Terms(**term) for key, term in terms.items()})
            for name, (numbers, terms) in state_dict["measured"].items()
        }


class _Measurement:
    """A dictionary and the callbacks that measure it, in one pass."""

    def __init__(self, pass_: Pass, name: str, k: int, callbacks: Sequence[PassCallback]) -> None:
        sae = DICTIONARIES[name](pass_.module, pass_.data, k).to(pass_.sae.W_dec)
        self._module = BaselineModule(sae, pass_.module.hparams["top_n"])
        self._pass, self._callbacks = pass_.beside(self._module), callbacks
        self._errors = ImageErrors(len(pass_.data.judge_embeddings)).to(pass_.module.device)
        for callback in callbacks:
            callback.begin(self._pass)

    def add(self, outputs: ValidationOutput) -> None:
        """Encode a batch, and hand it on."""
        batch = Batch(outputs.x, outputs.image_ids, outputs.targets, outputs.embeddings)
        own = self._module.validation.step(self._module.sae, batch)
        self._errors.update(own.x, own.x_hat, own.image_ids)
        self._pass.collect(own)
        for callback in self._callbacks:
            callback.take(self._pass, own)

    def finish(self) -> DictionaryNumbers:
        """Return what was found."""
        for callback in self._callbacks:
            callback.close(self._pass)
        logged = {key: value for key, value in self._module.logged.items() if is_compared(key)}
        return _measured(self._pass, logged, self._callbacks, self._errors)


def _measured(
    pass_: Pass, logged: Mapping[str, float], callbacks: Sequence[PassCallback], errors: ImageErrors
) -> DictionaryNumbers:
    """Return what callbacks have logged, with the values of the pass itself and all terms."""
    found = pass_.module.validation.values(pass_.sae)
    values = {f"val/{name}": float(value) for name, value in found.items()}
    own = {key: value for key, value in values.items() if is_compared(key)}
    error, cosine = errors.compute()
    terms = image_terms(error.cpu(), cosine.cpu(), own["val/fvu"])
    terms |= {"val/fvu_layer_norm": terms["val/fvu"]} if "val/fvu_layer_norm" in own else {}
    terms |= {key: term for callback in callbacks for key, term in callback.terms().items()}
    return DictionaryNumbers({**logged, **own}, {key: terms[key] for key in terms if is_compared(key)})


def _plain(terms: Mapping[str, Terms]) -> dict[str, dict[str, Any]]:
    """Return terms as a checkpoint can hold them."""
    return {key: term._asdict() for key, term in terms.items()}
