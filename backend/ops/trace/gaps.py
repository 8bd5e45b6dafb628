"""Says which pieces of a story are missing, and why that may be."""

from collections.abc import Sequence
from itertools import chain

from ops.trace.model import Database, Line, Request, Task, Work
from ops.trace.text import plural


def notes(requests: Sequence[Request], tasks: Sequence[Task], lines: Sequence[Line], database: Database) -> list[str]:
    """Return a sentence for each piece that one would expect and that no log holds. `tasks`: all, nested ones too."""
    found: list[str] = []
    queued = sorted({task.task for task in tasks if task.state == "QUEUED"})
    if queued:
        names = ", ".join(queued)
        found.append(f"No line of the worker about {names}: it has not run yet, or the worker's log is elsewhere.")
    if tasks and not requests:
        found.append("No line of a request: beat or a script sent this task, or the API's log is elsewhere.")
    if not tasks and not requests and not lines:
        found.append("Only PostgreSQL's log knows this ID; the services' logs are elsewhere, or reach back less far.")
    works = chain[Work](requests, *(task.runs for task in tasks))
    counted = sum(work.sql.count for work in works if work.sql)
    if counted and not database.statements:
        found.append(
            f"The application counted {plural(counted, 'statement')}, PostgreSQL's log has none of them: it is "
            "elsewhere, logs only slower ones (log_min_duration_statement), or SQL_COMMENTS is off."
        )
    elif counted > database.count:
        found.append(
            f"The application counted {plural(counted, 'statement')}, PostgreSQL's log has {database.count} of them."
        )
    return found
