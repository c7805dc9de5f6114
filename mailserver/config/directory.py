"""The sections of further sources of the directory.

One section for each source; which keys it may have, and which it must have, depends on its kind: `KEYS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from mailserver.config.fields import FilePath, Section
from mailserver.config.network import parse_domain_name
from mailserver.sasl import SchemeError, parse_hash

REQUIRED, OPTIONAL = True, False

KEYS: Mapping[str, Mapping[str, bool]] = {
    "passwd": {"file": REQUIRED, "default_domain": OPTIONAL, "default_scheme": OPTIONAL},
}
"""What says something with each kind of source."""


def parse_scheme(text: str) -> str:
    """A scheme that hashes may have. Raises ValueError."""
    try:
        parse_hash(f"{{{text}}}")
    except SchemeError as error:
        if "does not check" in str(error):
            raise ValueError('is not a scheme that this server checks; write one as "CRYPT" or "SSHA512"') from None
    return text.upper()


class DirectorySource(Section, validate_default=True):
    """Domains and accounts beside those of the accounts file, which is asked first. One section for each source."""

    kind: Literal["passwd"] = Field(description="what is asked: a file as Dovecot's passwd-file")
    file: FilePath | None = Field(
        default=None, description="passwd: the file, one line a user; read again when it changes"
    )
    default_domain: Annotated[str, AfterValidator(parse_domain_name)] | None = Field(
        default=None, description="passwd: the domain of users whose names have none; absent: they are passed over"
    )
    default_scheme: Annotated[str, AfterValidator(parse_scheme)] | None = Field(
        default=None, description="passwd: the scheme of hashes that name none; absent: CRYPT, as in Dovecot"
    )

    @field_validator("*")
    @classmethod
    def _fits_the_kind(cls, value: Any, info: ValidationInfo) -> Any:
        kind, key = info.data.get("kind"), str(info.field_name)
        if kind is None or key == "kind":
            return value
        if value is None and KEYS[kind].get(key) is REQUIRED:
            meaning = str(cls.model_fields[key].description).partition(": ")[2]
            raise ValueError(f'is missing; with kind = "{kind}" write {meaning}')
        if value is not None and key not in KEYS[kind]:
            kinds = " or ".join(f'"{name}"' for name, known in KEYS.items() if key in known)
            raise ValueError(f'says nothing with kind = "{kind}", only with {kinds}; leave it out')
        return value
