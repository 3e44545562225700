"""`cloudrun completion SHELL`: prints the script that completes our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from cloudrun.cli import output

_SHELLS = ("bash", "zsh", "fish")


@click.command("completion", cls=output.Command)
@click.argument("shell", type=output.OneOf(_SHELLS), metavar="|".join(_SHELLS))
def command(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash:  echo 'eval "$(cloudrun completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(cloudrun completion zsh)"' >> ~/.zshrc
    fish:  cloudrun completion fish > ~/.config/fish/completions/cloudrun.fish
    """
    from cloudrun.cli.app import command as root

    maker = get_completion_class(shell)
    assert maker is not None, "click knows these shells"  # noqa: S101
    click.echo(maker(root, {}, "cloudrun", "_CLOUDRUN_COMPLETE").source())
