"""Secrets from files: `NAME_FILE` is the path of one that holds what would else stand in `NAME`.

An environment is shown by whatever lists containers, and inherited by every program that is started.
"""

import os
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict


class SecretFileError(ValueError):
    """The secret can't be had so; the message names variable and path, never a value."""


class _SecretFiles(PydanticBaseSettingsSource):
    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        """Return the secret that lies in a file, if its variable names one; without the newline at its end.

        Raises:
            SecretFileError: the file can't be read, or the secret is told twice.
        """
        name = field_name.upper()
        path = os.environ.get(f"{name}_FILE")
        if field.annotation is not SecretStr or not path:
            return None, field_name, False
        if os.environ.get(name):
            raise SecretFileError(f"{name} and {name}_FILE are both set; which one holds?")
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n"), field_name, False
        except (OSError, ValueError) as error:
            raise SecretFileError(f"{name}_FILE: {path} can't be read ({type(error).__name__})") from None

    def __call__(self) -> dict[str, Any]:
        """Return the secrets that lie in files; an empty file is as good as none."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value}


class Environment(BaseSettings):
    """Settings from variables, and their secrets from files."""

    model_config = SettingsConfigDict(env_file=None, extra="ignore", hide_input_in_errors=True, env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Look into variables first; there is no other source."""
        return init_settings, env_settings, _SecretFiles(settings_cls)
