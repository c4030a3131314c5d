"""`edgeconv doctor`: what is installed, what is missing, how to get it."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from edgeconv.commands.console import EXIT_TOOL, Display, reported, show

if TYPE_CHECKING:
    from edgeconv.toolchain.environments.manage import Installed
    from edgeconv.toolchain.probes import Component

_AT_ONCE = 4
_SELF_TEST_SECONDS = 60.0
_SLOW_SECONDS = 5.0
_PACKAGES = {
    "torch": "torch",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "TensorFlow": "tensorflow",
    "LiteRT": "ai_edge_litert.interpreter",
}


@click.command()
@click.option("--target", default="cpu", show_default=True, help="What must be served.")
@click.option("--json", "as_json", is_flag=True, help="Print the components as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def doctor(target: str, *, as_json: bool, quiet: bool) -> None:
    """Say what is installed and whether it works, and what to do where it does not.

    What is installed is run, in processes of its own. Nothing is installed or changed. The exit
    code is 4 where the target cannot be served.
    """
    with reported(as_json=as_json, verbose=False):
        from edgeconv import targets

        asked = targets.find(target)
        with Display(quiet=quiet, verbose=False) as display:
            display.started("look around")
            found = _components(lambda done, total: display.advanced("look around", done, total))
            display.finished("look around")
        needed = {"Python", *_PACKAGES}
        needed |= {name for probe in asked.probes() for name in probe.needed}
        served = needed <= {item.name for item in found if item.works}
        if as_json:
            items = [{**item.to_dict(), "needed": item.name in needed} for item in found]
            show(json.dumps({"target": target, "served": served, "components": items}, indent=2))
        else:
            for item in found:
                show(_line(item, needed=item.name in needed))
            times = {item.name: item.seconds for item in found if item.seconds > _SLOW_SECONDS}
            slow = [f"{name} {seconds:.0f} s" for name, seconds in times.items()]
            if slow:
                show(f"\nslow to answer: {', '.join(slow)}")
            show(f"\n{target}: {'can be served' if served else 'cannot be served'}")
    if not served:
        raise click.exceptions.Exit(EXIT_TOOL)


def _components(advanced: Callable[[int, int], None]) -> list[Component]:
    """Ask for every component, those that are slow to load side by side."""
    from edgeconv import targets
    from edgeconv.toolchain import probes
    from edgeconv.toolchain.environments.home import home
    from edgeconv.toolchain.environments.manage import every_status

    folder = next(path for path in (home(), *home().parents) if path.is_dir())
    asked: list[Callable[[], list[Component]]] = [lambda: [_python()]]
    asked += [lambda n=n, m=m: [_package(n, m)] for n, m in _PACKAGES.items()]  # type: ignore[misc]
    asked += [
        lambda probe=probe: list(probe.ask())  # type: ignore[misc]
        for target in targets.every()
        for probe in target.probes()
    ]
    asked += [lambda item=item: [_environment(item)] for item in every_status()]  # type: ignore[misc]
    asked += [
        lambda: [
            probes.program("ssh", "install an OpenSSH client, to deploy to other machines"),
            probes.program("docker", "needed only for --compiler-image"),
            *probes.resources(folder),
        ]
    ]
    found: list[Component] = []
    with ThreadPoolExecutor(_AT_ONCE, "edgeconv-doctor") as pool:
        for done, future in enumerate([pool.submit(_timed, ask) for ask in asked], 1):
            found += future.result()
            advanced(done, len(asked))
    return found


def _timed(ask: Callable[[], list[Component]]) -> list[Component]:
    began = time.monotonic()
    found = ask()
    seconds = round(time.monotonic() - began, 1)
    return [replace(item, seconds=seconds) for item in found]


def _python() -> Component:
    from edgeconv.toolchain.probes import Component

    return Component("Python", works=True, version=platform.python_version(), where=sys.executable)


def _environment(item: Installed) -> Component:
    """Run the self-test of an environment that is said to be installed."""
    from edgeconv.toolchain.environments.manage import INSTALLED, self_test
    from edgeconv.toolchain.probes import Component

    name, again = item.environment.name, ""
    problem = "" if item.state == INSTALLED else item.state
    if not problem:
        problem = self_test(name, _SELF_TEST_SECONDS)
        again = f"edgeconv toolchain remove {name}; " if problem else ""
    return Component(
        name,
        works=not problem,
        version=item.environment.version,
        where=str(item.path),
        problem=problem,
        next_step=f"{again}edgeconv toolchain install {name}" if problem else "",
    )


def _package(name: str, module: str) -> Component:
    from edgeconv.toolchain import probes

    again = "pip install --upgrade edgeconv"
    return probes.asked(name, "edgeconv.toolchain.probes:package", again, module=module)


def _line(item: Component, *, needed: bool) -> str:
    mark = "ok" if item.works else "MISSING" if needed else "-"
    text = f"{mark:8}{item.name:18}{'  '.join(part for part in (item.version, item.where) if part)}"
    if item.works:
        return text
    return f"{text}  {item.problem}\n{'':8}{'next: ' + item.next_step if item.next_step else ''}"
