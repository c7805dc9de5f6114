"""What the sections of the configuration are made of: the base of all of them, and the types of their values.

Promises   Paths are absolute: relative ones are taken from the directory named by the validation context. Durations are
           seconds, sizes octets.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from mailserver.config.units import parse_duration, parse_size

MINUTE, HOUR, DAY, MIB = 60.0, 3600.0, 86400.0, 2**20


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    if "\0" in str(path):
        raise ValueError("has a NUL character, which no path can have; leave it out")
    directory: Path = (info.context or {}).get("directory", Path())
    return (directory / path).absolute()


def like(parse: Callable[[str], object]) -> AfterValidator:
    """Text that `parse` takes; kept as it is written."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]
Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
Count = Annotated[int, Field(ge=1, strict=True)]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
FilePath = Annotated[Path, AfterValidator(_beside_the_file)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
