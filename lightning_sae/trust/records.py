"""Records of a fixed schema, as JSON; errors name the fields that do not follow the schema."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from lightning_sae.trust.documents import read_text

M = TypeVar("M", bound=BaseModel)


def read_record_of(kind: type[M], path: Path, what: str, advice: str) -> M:
    """Read a record.

    Args:
        kind: schema of the record.
        path: path of the file, which must exist.
        what: description of the record with its version, for the message.
        advice: advice on how to get a valid record, for the message.

    Raises:
        ValueError: the record is of another version, or not whole; the message names up to five fields.
    """
    try:
        return kind.model_validate_json(read_text(path))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise ValueError(f"{path} is no {what} ({wrong}): {advice}") from error
