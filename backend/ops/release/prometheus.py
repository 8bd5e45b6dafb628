"""A small client of Prometheus. A value, nothing, not a number and no answer are four different answers.

Only a value can pass a gate: whoever asks must say what the three others mean to them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, assert_never
from urllib.parse import urlsplit, urlunsplit

import httpx

TIMEOUT_S: Final = 10.0
# Prometheus gives no more for one series.
_MAX_POINTS: Final = 11_000

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Value:
    """One number."""

    number: float


@dataclass(frozen=True, slots=True)
class Empty:
    """The query is fine, and no series fits it."""


@dataclass(frozen=True, slots=True)
class NotANumber:
    """A series is there, and what it gives is no number: NaN, +Inf or -Inf."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no answer: Prometheus is down or slow, or the query is wrong."""

    why: str


Answer = Value | Empty | NotANumber | Failed


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an instant query."""

    labels: Labels
    value: Value | NotANumber


@dataclass(frozen=True, slots=True)
class Line:
    """One series of a range query: times (seconds since 1970) and numbers. What is no number is left out."""

    labels: Labels
    points: Sequence[tuple[float, float]]


def said(answer: Answer) -> str:
    """Return an answer as a person reads it."""
    match answer:
        case Value(number):
            return f"{number:.6g}"
        case Empty():
            return "no data"
        case NotANumber(text):
            return f"{text}, which is no number"
        case Failed(why):
            return f"no answer: {why}"
        case _:
            assert_never(answer)


class Prometheus:
    """Asks one Prometheus; close it, or use it in a `with`.

    Args:
        url: where it answers; may hold a user and a password, which never show.
        timeout_s: for one answer.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        # trust_env: a proxy for the Internet has no business here.
        self._client = httpx.Client(base_url=url.rstrip("/"), timeout=timeout_s, trust_env=False)
        parts = urlsplit(url)
        host = parts.hostname or ""
        place = f"[{host}]" if ":" in host else host
        self.url = urlunsplit((parts.scheme, f"{place}:{parts.port}" if parts.port else place, parts.path, "", ""))

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._client.close()

    def instant(self, query: str, at: float | None = None) -> Answer:
        """Return the one number that a query gives.

        Args:
            query: PromQL that gives one series, or a scalar; more than one is no answer.
            at: seconds since 1970; now, unless given.
        """
        found = self.vector(query, at)
        if isinstance(found, Failed):
            return found
        if len(found) > 1:
            return Failed(f"the query gives {len(found)} series where one is wanted")
        return found[0].value if found else Empty()

    def vector(self, query: str, at: float | None = None) -> list[Sample] | Failed:
        """Return all series that a query gives at one moment."""
        data = self._ask("query", {"query": query} | ({} if at is None else {"time": f"{at:.3f}"}))
        if isinstance(data, Failed):
            return data
        try:
            if data["resultType"] == "scalar":
                return [Sample({}, _value(data["result"][1]))]
            return [Sample(each["metric"], _value(each["value"][1])) for each in data["result"]]
        except (KeyError, TypeError, ValueError, IndexError):
            return Failed("an answer of another form than Prometheus's")

    def range(self, query: str, start: float, end: float, step_s: float) -> list[Line] | Failed:
        """Return all series that a query gives from `start` to `end`, both included, a point every `step_s` seconds."""
        lines: dict[tuple[tuple[str, str], ...], tuple[Labels, list[tuple[float, float]]]] = {}
        first = start
        while first <= end:
            last = min(end, first + (_MAX_POINTS - 1) * step_s)
            window = {"start": f"{first:.3f}", "end": f"{last:.3f}", "step": f"{step_s:g}"}
            data = self._ask("query_range", {"query": query, **window})
            if isinstance(data, Failed):
                return data
            try:
                for each in data["result"]:
                    key = tuple(sorted(each["metric"].items()))
                    _, points = lines.setdefault(key, (each["metric"], []))
                    points += [(at, number) for at, text in each["values"] if math.isfinite(number := float(text))]
            except (KeyError, TypeError, ValueError, AttributeError):
                return Failed("an answer of another form than Prometheus's")
            first = last + step_s
        return [Line(labels, points) for labels, points in lines.values()]

    def _ask(self, path: str, parameters: Mapping[str, str]) -> Any | Failed:
        limit = {"timeout": f"{self.timeout_s:g}s"}
        try:
            # A form: a long query fits into no URL.
            answer = self._client.post(f"/api/v1/{path}", data={**parameters, **limit})
        except httpx.TimeoutException:
            return Failed(f"{self.url} took longer than {self.timeout_s:g} s")
        except httpx.HTTPError as error:
            return Failed(f"{self.url} can't be reached: {str(error) or type(error).__name__}")
        try:
            body = answer.json()
            status, data = body["status"], body.get("data")
        except (ValueError, TypeError, KeyError, AttributeError):
            return Failed(f"{self.url} answers {answer.status_code}, and not as Prometheus does")
        if status != "success" or not isinstance(data, dict):
            return Failed(str(body.get("error") or f"{self.url} answers {answer.status_code}"))
        if body.get("warnings"):
            return Failed(f"a part of the data is missing: {'; '.join(map(str, body['warnings']))}")
        return data


def _value(text: str) -> Value | NotANumber:
    number = float(text)
    return Value(number) if math.isfinite(number) else NotANumber(text)
