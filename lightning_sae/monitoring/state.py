"""The state of a monitor: a small file, there whole or not at all."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import numpy as np
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from lightning_sae.files import write_atomic
from lightning_sae.monitoring.evidence import MeanEvidence, merge_evidence
from lightning_sae.monitoring.image_numbers import ImageNumbers
from lightning_sae.monitoring.recent import Recent, merge_recent
from lightning_sae.monitoring.reference import FILE as REFERENCE
from lightning_sae.monitoring.reference import numbers_of, tensors_of
from lightning_sae.trust.damaged import UNREADABLE

FILE = "state.safetensors"
VERSION = "1"


@dataclass
class State:
    """Everything that a monitor remembers of the images that it has seen.

    Attributes:
        evidence: of each test.
        recent: the latest images.
        reference: digest of the reference that it is held against.
        machines: an id for each machine that has seen some of the images.
        bad: images that could not be read.
        taken: how many entries of the latest list have been seen, and the digest of their names.
    """

    evidence: MeanEvidence
    recent: Recent
    reference: str
    machines: list[str] = field(default_factory=lambda: [uuid4().hex])
    bad: int = 0
    taken: tuple[int, str] = (0, "")

    @classmethod
    def new(cls, d_sae: int, tests: int, reference: str) -> Self:
        """Return the state before the first image."""
        return cls(MeanEvidence.empty(tests), Recent(ImageNumbers.none(d_sae)), reference)


def reference_digest(folder: Path) -> str:
    """Return the digest of a folder's reference."""
    return hashlib.sha256((folder / REFERENCE).read_bytes()).hexdigest()


def save_state(state: State, folder: Path) -> None:
    """Write a state, whole or not at all: a kill leaves the one before."""
    evidence, recent = state.evidence, state.recent
    arrays = {name: torch.from_numpy(np.ascontiguousarray(part)) for name, part in _arrays(evidence).items()}
    pictures = b"".join(recent.pictures)
    sizes = torch.tensor([len(picture) for picture in recent.pictures])
    tensors = {
        **{f"evidence.{name}": tensor for name, tensor in arrays.items()},
        **{f"recent.{name}": tensor for name, tensor in tensors_of(recent.numbers).items()},
        "recent.places": torch.tensor(recent.places, dtype=torch.int64),
        "pictures": torch.frombuffer(bytearray(pictures), dtype=torch.uint8) if pictures else torch.empty(0),
        "sizes": sizes.long(),
    }
    said = {
        "version": VERSION,
        "seen": evidence.seen,
        "began": evidence.began,
        "d_sae": recent.numbers.latents.d_sae,
        "reference": state.reference,
        "machines": state.machines,
        "bad": state.bad,
        "taken": state.taken,
    }
    write_atomic(folder / FILE, safetensors.torch.save(tensors, {"state": json.dumps(said)}))


def load_state(folder: Path) -> State:
    """Read a state.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or of another version.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {FILE}: `lightning-sae monitor watch` writes it")
    try:
        with safe_open(path, framework="pt") as file:
            said: dict[str, Any] = json.loads(file.metadata()["state"])
            parts: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if said["version"] != VERSION:
            raise ValueError(f"version {said['version']}, not {VERSION}")
        evidence = MeanEvidence(
            **_under("evidence", parts, numpy=True), seen=said["seen"], began=said["began"]
        )
        recent = _recent(parts, said["d_sae"])
        count, names = said["taken"]
        return State(
            evidence, recent, said["reference"], said["machines"], said["bad"], (int(count), str(names))
        )
    except UNREADABLE as error:
        raise ValueError(
            f"{path} is damaged, or of another version ({error}): delete it to begin anew"
        ) from error


def merge_states(states: Sequence[State]) -> State:
    """Return what several machines have seen, as one.

    Raises:
        ValueError: fewer than two, other references, or a machine that is among them twice.
    """
    if len(states) < 2:
        raise ValueError(f"name two states or more to merge, got {len(states)}")
    if len({state.reference for state in states}) > 1:
        raise ValueError(
            "the states are held against different references: copy the reference of one monitor to every "
            "machine before it begins"
        )
    machines = [machine for state in states for machine in state.machines]
    if len({*machines}) < len(machines):
        raise ValueError(
            "a machine is in two of the states, and its images would count twice: merge the states of "
            "single machines, each once"
        )
    evidence = merge_evidence([state.evidence for state in states])
    recent = merge_recent([state.recent for state in states], evidence.seen)
    return State(evidence, recent, states[0].reference, machines, sum(state.bad for state in states))


def _arrays(evidence: MeanEvidence) -> dict[str, np.ndarray[Any, Any]]:
    every = {f.name: getattr(evidence, f.name) for f in fields(evidence)}
    return {name: part for name, part in every.items() if isinstance(part, np.ndarray)}


def _under(name: str, parts: dict[str, Tensor], numpy: bool = False) -> dict[str, Any]:
    found = {key.removeprefix(f"{name}."): part for key, part in parts.items() if key.startswith(f"{name}.")}
    return {key: part.numpy().copy() for key, part in found.items()} if numpy else found


def _recent(parts: dict[str, Tensor], d_sae: int) -> Recent:
    numbers = _under("recent", parts)
    places = numbers.pop("places").tolist()
    whole, at, pictures = parts["pictures"].byte().numpy().tobytes(), 0, list[bytes]()
    for size in parts["sizes"].tolist():
        pictures.append(whole[at : at + size])
        at += size
    return Recent(numbers_of(numbers, d_sae), places, pictures)
