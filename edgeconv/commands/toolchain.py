"""`edgeconv toolchain`: the isolated environments of external tools."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from edgeconv.commands.console import Display, reported, show

_LINE_SECONDS = 5.0
_DIRECTORY = click.Path(path_type=Path, file_okay=False)
_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_verbose = click.option("-v", "--verbose", is_flag=True, help="Show what pip printed on failure.")
_names = click.argument("names", metavar="NAME...", nargs=-1, required=True)


@click.group()
def toolchain() -> None:
    """Install, list and remove tools that need a Python environment of their own.

    They are kept below EDGECONV_HOME, by default edgeconv in the user's cache directory. Only
    `install` uses the network, and only through pip.
    """


@toolchain.command("list")
@_json
def list_(*, as_json: bool) -> None:
    """Say which tools there are and which are installed."""
    from edgeconv.toolchain.environments.manage import every_status

    with reported(as_json=as_json, verbose=False):
        found = every_status()
        if as_json:
            show(json.dumps([item.to_dict() for item in found], indent=2))
            return
        for item in found:
            made = f", Python {item.python}" if item.python else ""
            show(f"{item.environment.name:16}{item.environment.version:10}{item.state}{made}")
            show(f"{'':16}{item.environment.use}")


@toolchain.command()
@_names
@click.option(
    "--find-links",
    type=_DIRECTORY,
    metavar="DIR",
    help="Take every package from this directory and do not use the network.",
)
@click.option("--python", type=click.Path(path_type=Path), help="The Python to make it with.")
@_json
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@_verbose
def install(
    names: tuple[str, ...],
    *,
    find_links: Path | None,
    python: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Install tools, each from its lock file, and try them."""
    from edgeconv.toolchain.environments import manage, specs

    with (
        reported(as_json=as_json, verbose=verbose),
        Display(quiet=quiet, verbose=verbose) as display,
    ):
        for name in names:
            specs.find(name)
        done = []
        for name in names:
            began, before = time.monotonic(), manage.status(name).state
            step = f"install {name}"
            display.started(step)
            progress = _Progress(name, step, display, quiet=quiet)
            found = manage.install(name, find_links=find_links, python=python, progress=progress)
            display.finished(step)
            seconds = round(time.monotonic() - began, 1)
            done.append({**found.to_dict(), "before": before, "seconds": seconds})
    if as_json:
        show(json.dumps(done, indent=2))
        return
    for item in done:
        show(f"{item['name']} {item['version']}: {item['path']}")


class _Progress:
    """Moves the bar of an installation; where stderr is no terminal, writes a line now and then."""

    def __init__(self, name: str, step: str, display: Display, *, quiet: bool) -> None:
        self._name, self._step, self._display = name, step, display
        self._plain = not quiet and not sys.stderr.isatty()
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        self._display.advanced(self._step, done, total)
        now = time.monotonic()
        if self._plain and (now - self._last > _LINE_SECONDS or done >= total - 2):
            self._last = now
            click.echo(f"{self._name}: {done} of {total} steps", err=True)


@toolchain.command()
@_names
@_json
def remove(names: tuple[str, ...], *, as_json: bool) -> None:
    """Remove tools."""
    from edgeconv.toolchain.environments import manage, specs

    with reported(as_json=as_json, verbose=False):
        for name in names:
            specs.find(name)
        removed = {name: manage.remove(name) for name in names}
    if as_json:
        show(json.dumps(removed))
        return
    for name, was_there in removed.items():
        show(f"{name}: {'removed' if was_there else 'was not installed'}")


@toolchain.command()
@click.argument("name")
@_json
def path(name: str, *, as_json: bool) -> None:
    """Print the directory of an installed tool."""
    from edgeconv.toolchain.environments.manage import require, status

    with reported(as_json=as_json, verbose=False):
        require(name)
    found = status(name)
    show(json.dumps(found.to_dict(), indent=2) if as_json else str(found.path))
