"""`cloudrun colab`: a notebook for a free GPU, and the link that opens it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cloudrun.cli import output
from cloudrun.errors import WrongUsage
from cloudrun.model.need import PROFILES, WORKLOADS
from cloudrun.model.words import clean, format_bytes
from cloudrun.notebooks import links
from cloudrun.notebooks.build import GPUS

if TYPE_CHECKING:
    from cloudrun.notebooks.project import LeftOut

_MOST_TOLD = 10


class _Gpu(output.OneOf):
    """One of Colab's GPUs, in capitals or not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Give Colab's own name."""
        return super().convert(str(value).upper(), param, ctx)


@click.command("colab", cls=output.Command)
@click.argument("script", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write the notebook. [default: cloudrun.ipynb, or the script's name]",
)
@click.option(
    "--open", "show", envvar="CLOUDRUN_COLAB_OPEN", is_flag=True,
    help="Open the link in your browser.",
)  # fmt: skip
@click.option(
    "--gist", is_flag=True, help="Upload it as a secret gist of yours, after asking; link to it."
)
@click.option(
    "--github", metavar="OWNER/REPO[/PATH][@REF]", help="Only link to a notebook that is on GitHub."
)
@click.option("--url", metavar="URL", help="Only link to a notebook at a public https address.")
@click.option(
    "--gpu",
    type=_Gpu(GPUS),
    default="T4",
    metavar="NAME",
    help=f"The GPU to ask Colab for: {', '.join(GPUS)}; T4 is free. [default: T4]",
)
@click.option(
    "--workload",
    type=output.OneOf(WORKLOADS),
    metavar="|".join(WORKLOADS),
    help="What it runs. [default: all]",
)
@click.option(
    "--profile",
    type=output.OneOf(PROFILES),
    metavar="|".join(PROFILES),
    help="How long: about 1, 5 or 20 minutes on a GPU. [default: quick]",
)
@click.option("--yes", is_flag=True, help="Do not ask before uploading.")
@output.json_option
def command(
    script: Path | None,
    file: Path | None,
    show: bool,
    gist: bool,
    github: str | None,
    url: str | None,
    gpu: str,
    workload: str | None,
    profile: str | None,
    yes: bool,
    json: bool,
) -> None:  # fmt: skip
    """A notebook for a free GPU, and the link that opens it in Colab.

    Without SCRIPT it is the smoke test and the benchmark; with it, your own
    script and the small files in its folder. Bring the results home with
    'cloudrun collect'.
    """
    _check(script, gist, github, url, workload or profile, file)
    made: dict[str, Any] = {"notebook": None, "left_out": [], "gist": None}
    if github or url:
        made["link"] = links.github(github) if github else links.public(url or "")
    else:
        _make(made, script, file, gist, gpu, workload or "all", profile or "quick", yes)
    _tell(made, "cloudrun-results.zip" if script else "results.json", json)
    if show:
        _open(made["link"])


def _check(
    script: Path | None,
    gist: bool,
    github: str | None,
    url: str | None,
    chosen: str | None,
    file: Path | None,
) -> None:
    """Refuse what contradicts itself."""
    if sum(map(bool, (gist, github, url))) > 1:
        raise WrongUsage(
            "More than one link is asked for.", "", "Choose: --gist, --github or --url"
        )
    if (github or url) and (script or file):
        raise WrongUsage(
            "There is nothing to build for a notebook that is elsewhere.",
            "--github and --url only make the link.",
            "Build it first, without them; put it there; then ask for the link.",
        )
    if script and chosen:
        raise WrongUsage(
            "A notebook runs your script or a workload of cloudrun's.",
            "",
            "Leave out the script, or --workload and --profile.",
        )


def _make(
    made: dict[str, Any],
    script: Path | None,
    file: Path | None,
    gist: bool,
    gpu: str,
    workload: str,
    profile: str,
    yes: bool,
) -> None:
    """Build the notebook, and write it to a file or upload it."""
    from cloudrun.notebooks import build

    name = f"{script.stem}.ipynb" if script else "cloudrun.ipynb"
    path = file or Path(name)
    if script is None:
        notebook = build.workloads_notebook(workload, profile, gpu, path.name)
    else:
        from cloudrun.notebooks.project import gather

        project = gather(script)
        made["left_out"] = [left._asdict() for left in project.left_out]
        _tell_left_out(project.left_out)
        notebook = build.script_notebook(project, gpu, path.name)
    data = build.to_bytes(notebook)
    if file or not gist:
        _write(path, data)
        made["notebook"] = str(path)
    made["link"] = _upload(made, path.name, data, yes) if gist else links.UPLOAD


def _tell_left_out(left_out: tuple[LeftOut, ...]) -> None:
    for path, why in left_out[:_MOST_TOLD]:
        output.say(f"Stays at home: {path} ({why}).")
    if len(left_out) > _MOST_TOLD:
        output.say(f"And {len(left_out) - _MOST_TOLD} more; --json names them all.")


def _write(path: Path, data: bytes) -> None:
    """Write the notebook; one that holds results, or is not ours, is left alone."""
    from cloudrun.notebooks.read import is_fresh

    if path.exists() and not (path.is_file() and is_fresh(path)):
        raise WrongUsage(
            f"{path} is there already, and is no notebook that cloudrun has made and nobody ran.",
            "It may hold results.",
            "Move it away, or name another file: -o FILE",
        )
    path.write_bytes(data)


def _upload(made: dict[str, Any], name: str, data: bytes, yes: bool) -> str:
    """Upload the notebook after asking; returns the link."""
    from cloudrun.notebooks import gist

    if not yes and not sys.stdin.isatty():
        raise WrongUsage(
            "A gist would be made in your name, and there is nobody to ask.",
            "Input is not a terminal.",
            "Add --yes.",
        )
    secret = gist.token()
    output.say(
        f"{name} ({format_bytes(len(data))}) goes to GitHub, into a secret gist of yours. It is "
        "not listed, but whoever has its address can read it."
    )
    if not yes and not click.confirm("Upload it?", err=True):
        raise click.Abort
    done = gist.upload(name, data, secret)
    made["gist"] = {"id": done.id, "owner": done.owner, "url": done.url}
    return links.gist(done.owner, done.id, name)


def _tell(made: dict[str, Any], results: str, json: bool) -> None:
    """Print the link, the badge and where the notebook is."""
    link = made["link"]
    has_badge = link != links.UPLOAD
    made["markdown"] = links.markdown(link) if has_badge else None
    made["html"] = links.html(link) if has_badge else None
    if json:
        output.print_json(made)
        return
    if made["notebook"]:
        output.say(f"Written: {clean(made['notebook'])}")
    if made["gist"]:
        output.say(f"Uploaded: {clean(made['gist']['url'])}")
    click.echo(link)
    if has_badge:
        click.echo(made["markdown"])
        click.echo(made["html"])
    else:
        output.say(f"Open this link, and choose the file: {Path(made['notebook']).absolute()}")
    output.say(
        f"There, choose Runtime, Run all. Then bring the results home: cloudrun collect {results}"
    )


def _open(link: str) -> None:
    import webbrowser

    if not webbrowser.open(link):
        output.say("There is no browser here that cloudrun could open: open the link by hand.")
