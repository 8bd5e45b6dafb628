"""What the workers do, what waits for them, and what fails."""

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from app.utils.metrics import (
    CELERY_CANARY_AGE,
    CELERY_FAILURES,
    CELERY_QUEUE_DEPTH,
    CELERY_QUEUE_OLDEST,
    CELERY_TASK_DURATION,
    CELERY_TASKS,
)
from dashboards.frame import choice, frame, runbook
from dashboards.names import POINT, SHOWN, buckets, counter, gauge
from dashboards.panels import NO_FAILURE, graph, heat_map, number, rows, stacked, up_over_time
from dashboards.recording import QUEUE_WAIT, TASKS, quantile
from dashboards.style import CANARY_S, OLDEST_TASK_S, QUEUE_DEPTH, TASK_FAILURES, Unit, red_below, rising

_QUEUE: Final = 'queue=~"$queue"'
_TASK: Final = 'task=~"$task"'


def _runs(window: str, state: str = "", by: str = "") -> str:
    """Return how many runs of the chosen tasks ended in the window."""
    matcher = f'{_QUEUE},{_TASK},state="{state}"' if state else f"{_QUEUE},{_TASK}"
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (increase({counter(CELERY_TASKS)}{{{matcher}}}[{window}]))"


def build() -> Dashboard:
    """Return the dashboard."""
    return frame(
        "celery-deep-dive",
        "CommandCenter: Celery deep dive",
        "Are tasks taken, how long do they wait and run, which fail and why.",
        [
            number(
                "Workers",
                "Those that answer Prometheus.",
                'count(up{service="worker"} == 1) or vector(0)',
                Unit.COUNT,
                red_below(1),
            ).links([runbook("CeleryWorkerDown")]),
            number(
                "Success ratio",
                "Runs that succeeded, of all that ended in the time shown.",
                f"{_runs(SHOWN, 'SUCCESS')} / ({_runs(SHOWN)} > 0)",
                Unit.RATIO,
                red_below(1 - TASK_FAILURES[1]),
                empty="nothing ran",
            ).links([runbook("CeleryHighFailureRate")]),
            number(
                "Waiting",
                "Tasks in the chosen queues, all priorities.",
                # Each worker's host counts the same queues.
                f"sum(max by (queue) ({gauge(CELERY_QUEUE_DEPTH)}{{{_QUEUE}}}))",
                Unit.COUNT,
                rising(QUEUE_DEPTH),
            ).links([runbook("CeleryQueueBacklog")]),
            number(
                "Oldest task",
                "How long the one has waited that has waited longest.",
                f"max({gauge(CELERY_QUEUE_OLDEST)}{{{_QUEUE}}})",
                Unit.SECONDS,
                rising(OLDEST_TASK_S),
            ),
            number(
                "Canary",
                "Time since one last came through its queue; one is sent every 30 s. Old, with workers up: they hang.",
                f"max({gauge(CELERY_CANARY_AGE)}{{{_QUEUE}}})",
                Unit.SECONDS,
                rising(CANARY_S),
            ).links([runbook("CeleryCanaryLate")]),
            number(
                "Retries",
                "Runs that will be tried again, in the time shown.",
                _runs(SHOWN, "RETRY"),
                Unit.COUNT,
            ),
            up_over_time(
                "Workers over time",
                "When each answered Prometheus.",
                'min by (instance) (up{service="worker"})',
                "{{instance}}",
            ).links([runbook("CeleryWorkerDown")]),
            graph(
                "Depth by queue",
                "Tasks that wait. It may rise in a burst; it must come down again.",
                Unit.COUNT,
                (f"max by (queue) ({gauge(CELERY_QUEUE_DEPTH)}{{{_QUEUE}}})", "{{queue}}"),
                thresholds=rising(QUEUE_DEPTH),
            ).links([runbook("CeleryQueueBacklog")]),
            graph(
                "Oldest task by queue",
                "Grows by a second a second: nobody takes from this queue.",
                Unit.SECONDS,
                (f"max by (queue) ({gauge(CELERY_QUEUE_OLDEST)}{{{_QUEUE}}})", "{{queue}}"),
                thresholds=rising(OLDEST_TASK_S),
            ),
            graph(
                "Canary by queue",
                "A saw's teeth of 30 s are well.",
                Unit.SECONDS,
                (f"max by (queue) ({gauge(CELERY_CANARY_AGE)}{{{_QUEUE}}})", "{{queue}}"),
                thresholds=rising(CANARY_S),
            ).links([runbook("CeleryCanaryLate")]),
            stacked(
                graph(
                    "Tasks by state",
                    "Runs that ended, a point's width each.",
                    Unit.COUNT,
                    (_runs(POINT, by="state"), "{{state}}"),
                )
            ),
            graph(
                "Failure ratio by task",
                "Runs that failed, of all that ended.",
                Unit.RATIO,
                (f"{_runs(POINT, 'FAILURE', 'task')} / ({_runs(POINT, by='task')} > 0)", "{{task}}"),
                thresholds=rising(TASK_FAILURES),
            ).links([runbook("CeleryHighFailureRate")]),
            graph(
                "Duration p95 by task",
                "Of one run, over five minutes.",
                Unit.SECONDS,
                (quantile(0.95, TASKS, by="task", matcher=_TASK), "{{task}}"),
            ),
            heat_map(
                "Durations",
                "How runs of the chosen tasks are spread.",
                f"sum by (le) (increase({buckets(CELERY_TASK_DURATION)}{{{_TASK}}}[{POINT}]))",
            ),
            graph(
                "Queue wait p95 by task",
                "From when a task was to run until it ran, over five minutes. Long waits and short runs: more workers.",
                Unit.SECONDS,
                (quantile(0.95, QUEUE_WAIT, by="task", matcher=_TASK), "{{task}}"),
                thresholds=rising(OLDEST_TASK_S),
            ),
            graph(
                "Retries by task",
                "Runs that will be tried again. They hide a fault until they run out.",
                Unit.COUNT,
                (_runs(POINT, "RETRY", "task"), "{{task}}"),
            ),
            rows(
                "Exceptions",
                "Failed runs in the time shown. error-tracking has their logs.",
                Unit.COUNT,
                ["task", "exception"],
                (
                    f"sum by (task, exception) (increase({counter(CELERY_FAILURES)}{{{_TASK}}}[{SHOWN}])) > 0",
                    "failures",
                ),
            )
            .no_value(NO_FAILURE)
            .links([runbook("CeleryHighFailureRate")]),
        ],
        [
            choice("queue", "Queue", f"label_values({gauge(CELERY_QUEUE_DEPTH)}, queue)"),
            choice("task", "Task", f"label_values({counter(CELERY_TASKS)}, task)"),
        ],
    )
