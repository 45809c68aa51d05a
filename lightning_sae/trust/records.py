"""Records of a fixed schema, as JSON: what is not as the schema says is named."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from lightning_sae.trust.documents import read_text

M = TypeVar("M", bound=BaseModel)


def read_record_of(kind: type[M], path: Path, what: str, advice: str) -> M:
    """Read a record.

    Args:
        kind: its schema.
        path: of the file, which is there.
        what: it should be, with its version, for the message.
        advice: how to come to a right one.

    Raises:
        ValueError: it is of another version, or not whole; names the first five fields.
    """
    try:
        return kind.model_validate_json(read_text(path))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise ValueError(f"{path} is no {what} ({wrong}): {advice}") from error
