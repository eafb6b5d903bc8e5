"""`bbopt serve`: the server where people rank, and where programs of any language ask and tell."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bbopt.cli_output import FORMAT, json_option, note, print_facts, print_json
from bbopt.errors import MissingPackage, StudyMissing, UsageError

if TYPE_CHECKING:
    from server.access import Access, Role
    from server.config import Config

__all__ = ["serve"]

DAY = 24 * 3600.0
NEEDED = ("fastapi", "starlette", "uvicorn", "jinja2", "pydantic", "h11")
DEMO = "landscape"
DEMO_STORE = "demo.db"


@click.command(short_help="Let people rank in a browser, and programs ask and tell over HTTP.")
@click.option("--store", metavar="FILE", type=click.Path(dir_okay=False), help=f"The store with the studies; with --demo, {DEMO_STORE} unless given.")  # fmt: skip
@click.option("--study", "studies", multiple=True, metavar="NAME", help="A study to serve; several are allowed.  [default: all of the store]")  # fmt: skip
@click.option("--rater", "raters", multiple=True, metavar="NAME", help="Print a link for this person, to every study that is ranked; several are allowed. The same name is the same person after a restart.")  # fmt: skip
@click.option("--renderer", "renderers", multiple=True, metavar="[STUDY=]SPEC", help="How candidates are shown: auto, table, picture, or module:function from parameters to SVG, HTML, text, or bytes of a picture or sound.")  # fmt: skip
@click.option("--demo", is_flag=True, help="Make a study of landscapes to rank, if it is not there, with a link ready to click.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, metavar="H", help="Address to listen at.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), metavar="P", help="Port to listen at; 0: any that is free.")  # fmt: skip
@click.option("--url", metavar="URL", help="How people reach the server through a reverse proxy, such as https://rank.example.org.")  # fmt: skip
@click.option("--allow-host", "allowed_hosts", multiple=True, metavar="NAME", help="Another name, or name:port, that requests may use for this server.")  # fmt: skip
@click.option("--days", default=30.0, show_default=True, type=click.FloatRange(0, 3650, min_open=True), metavar="D", help="How long the links of this start hold.")  # fmt: skip
@click.option("--links", "links_file", metavar="FILE", type=click.Path(dir_okay=False), help="Write the links there, readable for you alone, and print none: for a server whose output is kept.")  # fmt: skip
@click.option("--lease", "lease_seconds", default=600.0, show_default=True, type=click.FloatRange(0, min_open=True), metavar="S", help="Seconds that a slate stays with a rater who shows no sign of life.")  # fmt: skip
@click.option("--deadline", "deadline_seconds", type=click.FloatRange(0, min_open=True), metavar="S", help="Seconds after its first answer at which a slate is settled without the other raters.  [default: never]")  # fmt: skip
@click.option("--repeats", default=0.0, show_default=True, type=click.FloatRange(0, 1, max_open=True), metavar="SHARE", help="Share of slates that a rater is shown a second time, to see how consistent the answers are.")  # fmt: skip
@click.option("--goal", type=click.IntRange(1), metavar="N", help="Answers after which a rater is told that it is enough.")  # fmt: skip
@click.option("--rate", "rate_per_minute", default=600, show_default=True, type=click.IntRange(1), metavar="N", help="Requests a minute that each token allows.")  # fmt: skip
@click.option("--access", metavar="FILE", type=click.Path(dir_okay=False), help="The file with the tokens' hashes.  [default: STORE.access]")  # fmt: skip
@json_option
def serve(store: str | None, studies: tuple[str, ...], raters: tuple[str, ...], renderers: tuple[str, ...], demo: bool,
          host: str, port: int, url: str | None, allowed_hosts: tuple[str, ...], days: float, links_file: str | None,
          lease_seconds: float, deadline_seconds: float | None, repeats: float, goal: int | None, rate_per_minute: int,
          access: str | None, as_json: bool) -> None:  # fmt: skip
    """Serve the studies of a store over HTTP until Ctrl-C: pages on which people rank, and an interface for programs.

    \b
    Examples:
      bbopt serve --demo
      bbopt serve --store runs.db --study sunset --rater ann --rater bob --renderer picture
      bbopt serve --store runs.db --renderer my_pictures:draw --url https://rank.example.org --links links.json

    It prints a link for you, the owner (studies, progress, links for more people, export), and one for each --rater. Whoever
    has a link gets in: hand them on with care. They end after --days, or when the owner revokes them.

    Only this machine can reach the server. For others, put a reverse proxy with TLS in front of it and give its address as
    --url, or use `ssh -L 8000:localhost:8000`. Programs find the interface described at /openapi.json.

    JSON: url, store, studies, owner and raters (study, name, url, token, expires; without url and token with --links).
    It is printed when the server is ready.
    """
    run = _server()
    config_module = import_module("server.config")
    if store is None and not demo:
        raise click.UsageError("expected --store FILE, or --demo; got neither")
    path = Path(store or DEMO_STORE)
    shown = _renderers(renderers)
    if demo:
        _make_demo(path)
        shown = {DEMO: "picture", **shown}
        studies = studies or (DEMO,)
        raters = raters or ("you",)
    for rater in raters:
        import_module("server.access").check_name(rater)
    served, ranked = _studies(path, studies, shown)
    if raters and not ranked:
        raise UsageError(f"--rater: expected a study that is ranked, got {', '.join(served) or 'none'}; give its task feedback \"ranking\"")  # fmt: skip
    config = config_module.Config(
        path, studies, None if access is None else Path(access), host, port, allowed_hosts, url, shown, lease_seconds,
        deadline_seconds, repeats, goal, rate_per_minute=rate_per_minute,
    )  # fmt: skip

    def started(config: Config, access: Access) -> None:
        document = _links(config, access, served, ranked, raters, days)
        if links_file is not None:
            _write_private(Path(links_file), json.dumps({"format": FORMAT, **document}, indent=1) + "\n")
            for link in (document["owner"], *document["raters"]):
                del link["url"], link["token"]
        if as_json:
            print_json(document)
        else:
            _print(document, links_file, days)

    run.serve(config, started)


def _server() -> Any:
    """The server's code; it and what it needs are loaded by this command alone."""
    from bbopt.neighbours import neighbour

    neighbour("server")
    try:
        return import_module("server.run")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in NEEDED:
            raise
        raise MissingPackage(f"bbopt serve needs the package {error.name}, which is not installed: pip install 'bbopt[server]'") from error  # fmt: skip


def _renderers(words: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        study, _, spec = word.rpartition("=")
        if not spec:
            raise click.UsageError(
                f"--renderer: expected auto, table, picture or module:function, got none in {word!r}"
            )
        if (study or "*") in found:
            raise click.UsageError(f"--renderer: expected one for {study or 'all studies'}, got several")
        found[study or "*"] = spec
    return found


def _studies(path: Path, wanted: tuple[str, ...], renderers: dict[str, str]) -> tuple[list[str], list[str]]:
    """The studies that are served, and those of them that are ranked. Raises StoreMissing, or StudyMissing with near names."""
    from bbopt.store import SQLiteStore

    servable = import_module("server.config").servable
    with contextlib.closing(SQLiteStore(path, create=False)) as file:
        there = file.studies()
        for name in (*wanted, *(study for study in renderers if study != "*")):
            if name not in there:
                near = difflib.get_close_matches(name, there, n=3, cutoff=0.5)
                hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(there) or 'none'}"
                raise StudyMissing(f"expected a study {name!r} in {path}; {hint}")
            if not servable(name):
                raise UsageError(f"expected the name of a study without /, \\ and control characters, which addresses cannot hold; got {name!r}")  # fmt: skip
        for name in there:
            if not wanted and not servable(name):
                note(f"{name!r} is left out: its name cannot be a part of an address")
        served = [name for name in there if (not wanted or name in wanted) and servable(name)]
        ranked = [name for name in served if file.definition(name)["task"].get("feedback") == "ranking"]
    return served, ranked


def _make_demo(path: Path) -> None:
    """The study of landscapes, unless it is there."""
    from bbopt import problems
    from bbopt.optimizer import Optimizer
    from bbopt.store import SQLiteStore

    with contextlib.closing(SQLiteStore(path)) as file:
        if DEMO not in file.studies():
            Optimizer(problems.get(DEMO).task, "auto", store=file, name=DEMO)


def _links(config: Config, access: Access, served: list[str], ranked: list[str], raters: tuple[str, ...], days: float) -> dict[str, Any]:  # fmt: skip
    """New links for this start. Only hashes of earlier ones are kept, so these cannot be shown again; they hold on."""
    join_url = import_module("server.api_access").join_url

    def issue(role: Role, study: str | None, name: str) -> dict[str, Any]:
        link, token = access.issue(role, study, name, days * DAY, again=True)
        facts: dict[str, Any] = {} if study is None else {"study": study}
        return {**facts, "name": name, "url": join_url(config, token), "token": token, "expires": link.expires}

    return {
        "url": config.origin,
        "store": str(config.store),
        "studies": served,
        "owner": issue("owner", None, "owner"),
        "raters": [issue("rater", study, name) for study in ranked for name in dict.fromkeys(raters)],
    }


def _print(document: dict[str, Any], links_file: str | None, days: float) -> None:
    click.echo(f"serving {document['store']} at {document['url']}; Ctrl-C ends it")
    click.echo(f"studies: {', '.join(document['studies']) or 'none yet'}")
    if links_file is None:
        links = {f"{link['study']}, {link['name']}": link["url"] for link in document["raters"]}
        print_facts({"owner": document["owner"]["url"], **links})
        note(f"whoever has a link gets in; these hold for {days:g} days, or until they are revoked")
    else:
        note(f"the links are in {links_file}; they hold for {days:g} days, or until they are revoked")


def _write_private(path: Path, text: str) -> None:
    """A file that only its user can read, from the first byte on."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    part.replace(path)
