"""`preflight`: everything that can be known before anything is changed. Changes nothing itself."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import psycopg

from ops.release import detection, monitoring_files, schema, version
from ops.release.findings import Finding, judged
from ops.release.prometheus import Answer, Prometheus, Value, said
from ops.release.target import Target
from ops.release.weakness import SHORTEST, SHORTEST_KEY, weakness
from ops.stack.errors import StackError, in_plain_words
from ops.stack.layout import first_existing
from ops.stack.programs import find, python

_TOOLS: Final = ("git", "promtool", "amtool")
# A backup, its restored copy, and what grows meanwhile.
_DISK_FACTOR: Final = 3
_DISK_LEAST_BYTES: Final = 1024**3
_CLOCK_OFF_S: Final = 5.0
# Of squawk's rules, those about style, and what `apply` sets itself (lock_timeout).
_NOT_LINTED: Final = (
    "prefer-text-field", "prefer-bigint-over-int", "prefer-bigint-over-smallint", "prefer-identity",
    "require-timeout-settings", "prefer-robust-stmts", "ban-char-field",
)  # fmt: skip


def preflight(target: Target, commit: str) -> Iterator[Finding]:
    """Yield what each check found."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _tools,
        lambda: _clean(target),
        lambda: _secrets(target.wanted_secrets()),
        lambda: _reachable(target),
        lambda: _clocks(target),
        lambda: _disk(target),
        lambda: _migrations(target, commit),
        lambda: monitoring_files.check(target),
        lambda: _detection(target),
    )
    for check in checks:
        try:
            # One that stumbles must not hide what the others have to say.
            with in_plain_words("A check"):
                yield from check()
        except StackError as error:
            yield Finding("preflight", "failed", error.problem, "an answer", error.way_out)


def _tools() -> Iterator[Finding]:
    missing = [tool for tool in _TOOLS if find(tool) is None]
    missing += [] if python().with_name("squawk").exists() else ["squawk"]
    yield judged(
        "tools",
        well=not missing,
        value=f"missing: {', '.join(missing)}" if missing else ", ".join((*_TOOLS, "squawk")),
        bound="all installed",
        advice="make packages; elsewhere: install Prometheus and Alertmanager, their tools come with them.",
    )


def _clean(target: Target) -> Iterator[Finding]:
    changed = version.changed_files(target.checkout)
    yield judged(
        "clean version",
        well=not changed,
        value=f"{len(changed)} files differ from the commit: {', '.join(changed[:5])}" if changed else "no difference",
        bound="nothing that nobody else has",
        advice="Commit it, or put it away.",
    )


def _secrets(secrets: Mapping[str, str]) -> Iterator[Finding]:
    """Tell which secrets are missing, weak or well known; never what they are."""
    problems = {name: problem for name, value in secrets.items() if (problem := weakness(name, value))}
    yield judged(
        "secrets",
        well=not problems,
        value="; ".join(f"{name} is {problem}" for name, problem in problems.items()) or f"{len(secrets)} of them",
        bound=f"set, {SHORTEST} characters or more ({SHORTEST_KEY} for the key), hard to guess",
        advice="Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'; docs/production.md "
        "says what follows (Change a password). A former key goes once all repositories were synced.",
    )


def _reachable(target: Target) -> Iterator[Finding]:
    problems = {name: problem for name, problem in target.answers().items() if problem}
    yield judged(
        "reachability",
        well=not problems,
        value="; ".join(f"{name}: {problem}" for name, problem in problems.items()) or "every part answers",
        bound="every part answers",
        advice="commandcenter status; a release begins on a system that is well.",
    )


def _disk(target: Target) -> Iterator[Finding]:
    try:
        with target.connect() as connection:
            [[size]] = connection.execute("SELECT pg_database_size('commandcenter')").fetchall()
    except psycopg.Error as error:
        raise StackError(f"The database's size can't be asked: {error}", "commandcenter status") from error
    folder = first_existing(target.releases.folder)
    wanted = max(_DISK_FACTOR * int(size), _DISK_LEAST_BYTES)
    free = shutil.disk_usage(folder).free
    yield judged(
        "disk",
        well=free >= wanted,
        value=f"{free / 1024**3:.1f} GB free",
        bound=f"{wanted / 1024**3:.1f} GB: backup, restore test, and room",
        advice=f"Make room where {folder} lies.",
    )
    at_data = target.data_free_bytes()
    yield judged(
        "disk of PostgreSQL",
        well=at_data >= wanted,
        value=f"{at_data / 1024**3:.1f} GB free",
        bound=f"{wanted / 1024**3:.1f} GB: the restored copy, and room",
        advice="Make room where PostgreSQL's data lies.",
    )
    yield _backup(target, folder)


def _backup(target: Target, folder: Path) -> Finding:
    """Tell whether pg_dump gets at everything; what it says is thrown away."""
    problem = "" if os.access(folder, os.W_OK) else f"{folder} can't be written to"
    try:
        target.postgres_tool("pg_dump", "--schema-only", "--dbname=commandcenter")
    except (StackError, OSError) as error:
        problem = problem or str(error)
    return judged(
        "a backup is possible",
        well=not problem,
        value=problem or f"pg_dump reads the schema; {folder} may be written to",
        bound="both",
        advice="Look what pg_dump says, and who owns that folder.",
    )


def _clocks(target: Target) -> Iterator[Finding]:
    """Tell how far the clocks of those who write times down are apart from this host's."""
    with Prometheus(target.prometheus_url) as prometheus:
        asked: dict[str, Callable[[], Answer]] = {
            "PostgreSQL": lambda: _database_time(target),
            "Prometheus": lambda: prometheus.instant("time()"),
        }
        for name, ask in asked.items():
            before = time.time()
            found = ask()
            # What lies between question and answer is nobody's fault.
            now = time.time()
            off = max(before - found.number, found.number - now, 0.0) if isinstance(found, Value) else None
            yield judged(
                f"clock, {name}",
                well=off is not None and off <= _CLOCK_OFF_S,
                value=said(found) if off is None else f"{off:.1f} s apart from this host's",
                bound=f"{_CLOCK_OFF_S:g} s at most",
                advice="A clock is off: set it (timedatectl; chronyc tracking). Times in journal and history mislead.",
            )


def _database_time(target: Target) -> Answer:
    with target.connect() as connection:
        [[seconds]] = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchall()
    return Value(float(seconds))


def _migrations(target: Target, commit: str) -> Iterator[Finding]:
    known = target.revisions(commit)
    now = schema.revision(target)
    if now is not None and now not in known:
        yield Finding(
            "migrations", "failed", f"the database is at {now}, which {commit} does not know", "a newer version",
            "commandcenter release rollback full goes back.",
        )  # fmt: skip
        return
    if now == known[0]:
        yield Finding("migrations", "ok", f"none: the schema is at {now} already", "no finding of squawk")
        return
    yield lint(target.schema_sql(commit, now or "base", known[0]))


def lint(sql: str) -> Finding:
    """Return what squawk says of migrations."""
    squawk = python().with_name("squawk")
    if not squawk.exists():
        return Finding("migrations", "inconclusive", "squawk is not installed", "no finding of squawk", "make packages")
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(sql)
        file.flush()
        done = subprocess.run(
            [str(squawk), f"--exclude={','.join(_NOT_LINTED)}", "--reporter=gcc", file.name],
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [
            line.replace(file.name, "migration") for line in done.stdout.splitlines() if line.startswith(file.name)
        ]
    return judged(
        "migrations",
        well=done.returncode == 0,
        value="; ".join(lines[:3]) or (done.stderr.strip()[-300:] if done.returncode else "no finding"),
        bound="no finding of squawk: no long lock, no rewrite of a table",
        advice="Split the migration; https://squawkhq.com/docs/rules says how, rule by rule.",
    )


def _detection(target: Target) -> Iterator[Finding]:
    bounds = detection.bounds(target.checkout / "monitoring", monitoring_files.alertmanager_file(target))
    if not bounds:
        yield Finding("time to detect", "failed", "no alert is critical", "at least one", "monitoring/alerts.yml")
    for bound in bounds:
        covered = f"; {bound.covered_by} goes before it" if bound.covered_by else ""
        less = f"; in time where over {bound.least_share:.0%} fail" if bound.least_share else ""
        yield judged(
            f"time to detect, {bound.alert}",
            well=bound.is_in_time,
            value=f"{bound.seconds:.0f} s for a total failure{covered}{less}; {bound.worst_s:.0f} s at worst",
            bound=f"under {detection.LIMIT_S:.0f} s for a total failure, or by a critical of its stage that mutes it",
            advice="Shorten its window or `for`, or give it a fast twin and promote that first.",
        )
