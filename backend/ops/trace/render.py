"""Draws a story as a tree in a terminal. Log values go through `text.safe`, and never through rich's markup."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Final, TypeVar

from rich.text import Text
from rich.tree import Tree

from ops.trace import text as say
from ops.trace.failures import own_frames
from ops.trace.model import Database, Failure, Line, Outbound, Request, Run, Sql, Statement, Step, Story, Task, Work
from ops.trace.steps import count
from ops.trace.trail_rows import trail_rows

T = TypeVar("T")

_VALUE_CHARS: Final = 80
_MAX_ROWS: Final = 50
_LEVELS: Final = {"debug": "dim", "info": "", "warning": "yellow", "error": "bold red", "critical": "bold red"}
_STATES: Final = {"SUCCESS": "green", "RUNNING": "cyan", "QUEUED": "cyan", "RETRY": "yellow"}
_CLIENT_ERROR: Final = 400
_SERVER_ERROR: Final = 500


def story_tree(story: Story, now: datetime, *, full: bool = False) -> Tree:
    """Return the story as a tree.

    Args:
        story: what to draw.
        now: for "running since".
        full: nothing shortened: whole SQL, tracebacks, plans, all rows.
    """
    return _Pencil(now, full=full).story(story)


class _Pencil:
    def __init__(self, now: datetime, *, full: bool) -> None:
        self._now = now
        self._full = full

    def story(self, story: Story) -> Tree:
        tasks = list(_all_tasks([*story.tasks, *(task for request in story.requests for task in request.tasks)]))
        whole = f"{say.duration(story.duration_ms)} in all" if story.duration_ms is not None else "not ended"
        head = Text.assemble("Request ID ", (say.safe(story.request_id), "bold"), f"  {whole}", style="")
        head.append(f"  {say.plural(len(story.requests), 'request')}, {say.plural(len(tasks), 'task')}", "dim")
        tree = Tree(head, guide_style="dim")
        tree.add(Text(f"began {say.moment(story.started_at)}", "dim"))
        for trace_id in story.trace_ids:
            tree.add(Text(f"trace {say.one_line(trace_id, 64)}", "dim"))
        for request in story.requests:
            self._request(tree, request)
        for task in story.tasks:
            self._task(tree, task)
        self._rows(tree, "Other log lines", story.lines, self._line)
        self._database(tree, story.database)
        for note in story.notes:
            tree.add(Text(f"Note: {say.one_line(note)}", "yellow"))
        return tree

    # --- requests and tasks

    def _request(self, tree: Tree, request: Request) -> None:
        head = Text.assemble(
            (say.one_line(f"{request.method or 'request'} {request.path or request.route or ''}", 200), "bold")
        )
        if request.state == "RUNNING":
            head.append(f"  running since {say.since(request.started_at, self._now)}", "cyan")
        else:
            head.append(f" → {request.status}", _status_style(request.status))
            head.append(f" in {say.duration(request.duration_ms or 0.0)}")
        head.append(f"  {say.offset(request.offset_ms)}", "dim")
        branch = tree.add(head)
        where = [f"route {request.route}"] if request.route else []
        where += [f"client {request.client}"] if request.client else []
        where += [f"{request.service} process {request.pid}"]
        branch.add(Text(say.one_line(" · ".join(where), 300), "dim"))
        if request.state == "RUNNING":
            branch.add(Text("No request.finished line: it runs, its process died, or the line is elsewhere.", "yellow"))
        self._work(branch, request)
        for task in request.tasks:
            self._task(branch, task)

    def _task(self, tree: Tree, task: Task) -> None:
        head = Text.assemble("Task ", (say.one_line(task.task, 200), "bold"), f" {say.one_line(task.task_id, 80)}")
        head.append(
            f"  {task.state if task.state.isalpha() else say.one_line(task.state, 20)}", _state_style(task.state)
        )
        if task.state == "QUEUED" and task.sent_at is not None:
            head.append(f" for {say.since(task.sent_at, self._now)}", "cyan")
        head.append(f"  {say.offset(task.offset_ms)}", "dim")
        branch = tree.add(head)
        if task.queue:
            branch.add(Text(f"queue {say.one_line(task.queue, 80)}", "dim"))
        for run in task.runs:
            self._run(branch, run)
        for child in task.tasks:
            self._task(branch, child)

    def _run(self, tree: Tree, run: Run) -> None:
        head = Text(f"Attempt {run.attempt}  ")
        if run.state == "RUNNING":
            head.append(f"running since {say.since(run.started_at, self._now)}", "cyan")
        else:
            head.append(say.one_line(run.state, 20), _state_style(run.state))
            if run.duration_ms is not None:
                head.append(f" in {say.duration(run.duration_ms)}")
        if run.queue_wait_ms is not None:
            head.append(f", waited {say.duration(run.queue_wait_ms)} in the queue")
        if not run.started:
            head.append(", no line of its start", "yellow")
        head.append(f"  {say.offset(run.offset_ms)}", "dim")
        head.append(f"  {say.one_line(run.service, 40)} process {run.pid}", "dim")
        self._work(tree.add(head), run)

    def _work(self, tree: Tree, work: Work) -> None:
        if work.error is not None:
            self._failure(tree, work.error)
        if work.sql is not None and work.sql.count:
            self._sql(tree, work.sql)
        if work.progress:
            steps = [
                f"{step.stage} {step.progress:.0f} % {say.offset(step.offset_ms)}"
                if step.progress is not None
                else f"{step.stage} {say.offset(step.offset_ms)}"
                for step in _last_of_each_stage(work)
            ]
            tree.add(Text(f"Progress  {say.one_line(' → '.join(steps))}"))
        if work.trail:
            branch = tree.add(Text(f"Trail  {say.plural(count(work.trail), 'step')}"))
            for row in trail_rows(work.trail, full=self._full):
                branch.add(row)
        self._rows(tree, "Calls out", work.outbound, self._outbound)
        self._rows(tree, "Log", work.lines, self._line)

    # --- leaves

    def _sql(self, tree: Tree, sql: Sql) -> None:
        label = Text(f"SQL  {say.plural(sql.count, 'statement')}, {say.duration(sql.time_ms)}")
        if sql.slowest_ms is not None and sql.slowest:
            label.append(f"; slowest {say.duration(sql.slowest_ms)}: ")
            label.append(self._shortened(sql.slowest), "dim")
        tree.add(label)

    def _failure(self, tree: Tree, failure: Failure) -> None:
        label = Text.assemble((f"Error  {say.one_line(failure.type, 120)}", "bold red"))
        if failure.message:
            label.append(f": {say.one_line(failure.message, None if self._full else 300)}", "red")
        label.append(f"  {say.offset(failure.offset_ms)}", "dim")
        branch = tree.add(label)
        if failure.fingerprint:
            branch.add(Text(f"fingerprint {say.one_line(failure.fingerprint, 80)}", "dim"))
        if failure.traceback:
            lines = failure.traceback.split("\n") if self._full else own_frames(failure.traceback)
            text = "\n".join(say.safe(line.rstrip()) for line in lines)
            branch.add(Text(text, "dim"))
            if len(lines) < failure.traceback.count("\n") + 1:
                branch.add(Text("The whole traceback: --full", "dim italic"))

    def _outbound(self, call: Outbound) -> Text:
        label = Text.assemble((f"{say.offset(call.offset_ms)}  ", "dim"))
        label.append(say.one_line(f"{call.method} {call.host}{call.path}", 200), "none")
        outcome = str(call.status) if call.status is not None else (call.error_type or "no answer")
        label.append(f" → {say.one_line(outcome, 80)}", _status_style(call.status))
        if call.duration_ms is not None:
            label.append(f" in {say.duration(call.duration_ms)}", "none")
        return label

    def _line(self, line: Line) -> Text:
        label = Text.assemble((f"{say.offset(line.offset_ms)}  ", "dim"))
        label.append(f"{say.one_line(line.level, 20):<7} ", _LEVELS.get(line.level, "") or "none")
        label.append(say.one_line(line.event, None if self._full else 300), "none")
        for key, value in line.fields.items():
            if value is None or (key == "exception" and not self._full):
                continue
            shown = value if isinstance(value, str) else repr(value)
            if key == "exception":
                label.append("\n" + "\n".join(say.safe(part) for part in shown.split("\n")), "dim")
            else:
                limit = None if self._full else _VALUE_CHARS
                label.append(f" {say.one_line(key, 40)}={say.one_line(shown, limit)}", "dim")
        if "exception" in line.fields and not self._full:
            label.append(" (its traceback: --full)", "dim italic")
        # Our own event names say by themselves who told them.
        if not line.logger.startswith("app."):
            label.append(f"  {say.one_line(line.logger, 60)}", "dim italic")
        return label

    def _database(self, tree: Tree, database: Database) -> None:
        if not database.statements:
            return
        head = Text.assemble(("PostgreSQL saw ", "bold"))
        head.append(say.plural(database.count, "statement"))
        head.append(f" in {say.plural(database.transactions, 'transaction')}, {say.duration(database.time_ms)}")
        branch = tree.add(head)
        shown = [one for one in database.statements if self._full or one.kind == "statement" or one.error]
        # The same statement many times in a row is one finding.
        runs = [list(group) for _, group in groupby(shown, key=lambda one: (one.name, one.text, one.error))]
        rows = [[one] for one in shown] if self._full else runs
        self._rows(branch, None, rows, self._statements)

    def _statements(self, same: Sequence[Statement]) -> Text | Tree:
        first = same[0]
        times = [one.duration_ms for one in same if one.duration_ms is not None]
        label = Text.assemble((f"{say.offset(first.offset_ms)}  ", "dim"))
        if times:
            label.append(f"{say.duration(sum(times))}  ", "none")
        if len(same) > 1:
            label.append(f"{len(same)} times  ", "yellow")
        if first.name:
            label.append(f"[{say.one_line(first.name, 120)}]  ", "cyan")
        label.append(self._shortened(first.text), "none")
        if first.error:
            label.append(f"  {say.one_line(first.error, 300)}", "bold red")
        plan = next((one.plan for one in same if one.plan), [])
        if not plan:
            return label
        if not self._full:
            label.append("  (its plan: --full)", "dim italic")
            return label
        tree = Tree(label)
        tree.add(Text("\n".join(say.safe(node) for node in plan), "dim"))
        return tree

    def _rows(self, tree: Tree, title: str | None, rows: Sequence[T], draw: Callable[[T], Text | Tree]) -> None:
        if not rows:
            return
        branch = tree if title is None else tree.add(Text(title))
        shown = rows if self._full else rows[:_MAX_ROWS]
        for row in shown:
            drawn = draw(row)
            if isinstance(drawn, Tree):
                branch.children.append(drawn)
            else:
                branch.add(drawn)
        if len(shown) < len(rows):
            branch.add(Text(f"… {len(rows) - len(shown)} more: --full", "dim italic"))

    def _shortened(self, sql: str) -> str:
        return (say.one_line(sql) if self._full else say.short_sql(sql, say.SQL_CHARS)) or "(no text)"


def _all_tasks(tasks: Iterable[Task]) -> Iterable[Task]:
    for task in tasks:
        yield task
        yield from _all_tasks(task.tasks)


def _last_of_each_stage(work: Work) -> list[Step]:
    return [list(group)[-1] for _, group in groupby(work.progress, key=lambda step: step.stage)]


def _status_style(status: int | None) -> str:
    if status is None or status >= _SERVER_ERROR:
        return "bold red"
    return "yellow" if status >= _CLIENT_ERROR else "green"


def _state_style(state: str) -> str:
    return _STATES.get(state, "bold red")
