"""`precis config`: every setting, its value, and where the value comes from."""

from __future__ import annotations

from typing import Any

import click

from service.commands.flags import settings_flags, settings_from_flags
from service.settings import (
    Settings,
    settings_file,
    sources_of_settings,
    without_password,
)


@click.command()
@settings_flags()
def config(**flags: Any) -> None:
    """Show every setting, its value and its source, as `precis serve` would take them.

    A flag wins over the environment, and that over the settings file. Secrets are not shown.
    """
    settings = settings_from_flags(flags)
    given = [name for name, value in flags.items() if value is not None]
    sources = sources_of_settings(given)
    path = settings_file()
    click.echo(f"Settings file: {path}{'' if path.exists() else ' (not there)'}")
    width = max(map(len, Settings.model_fields))
    for name in Settings.model_fields:
        value = getattr(settings, name)
        shown = "-" if value is None else str(value)
        if name == "store":
            shown = without_password(shown)
        click.echo(f"{name:<{width}}  {sources[name]:<11}  {shown}")
