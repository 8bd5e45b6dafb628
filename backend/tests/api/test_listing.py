"""The list: pages and filters."""

import httpx
import psycopg
import pytest


def fill(url: str, rows: list[tuple[str, str, str | None, str | None]]) -> None:
    """Insert (owner, name, language, description)."""
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO repositories (url, owner, name, full_name, language, description)"
            " VALUES ('https://x.org/' || %s || '/' || %s, %s, %s, %s, %s, %s)",
            [(owner, name, owner, name, f"{owner}/{name}", language, text) for owner, name, language, text in rows],
        )


async def names(client: httpx.AsyncClient, **query: object) -> list[str]:
    """Return the names of one page."""
    response = await client.get("/repositories", params={key: str(value) for key, value in query.items()})
    assert response.status_code == 200, response.text
    return [item["name"] for item in response.json()["items"]]


async def test_pages_follow_each_other_without_gap_or_double(client: httpx.AsyncClient, empty_database: str) -> None:
    """By full name, and by ID where that is the same: every row on exactly one page."""
    fill(empty_database, [("o", f"n{number:03}", None, None) for number in range(25)])
    with psycopg.connect(empty_database, autocommit=True) as connection:
        # Backwards, so that rows of one name don't lie in the order of their IDs.
        for number in range(24, 0, -2):
            connection.execute("UPDATE repositories SET full_name = 'o/same' WHERE id = %s", [number])
    seen = []
    for offset in range(0, 30, 7):
        page = (await client.get("/repositories", params={"limit": 7, "offset": offset})).json()
        assert (page["total"], page["limit"], page["offset"]) == (25, 7, offset)
        seen += [(item["full_name"], item["id"]) for item in page["items"]]
    assert len(set(seen)) == len(seen) == 25
    assert seen == sorted(seen)


async def test_limit_and_offset_have_bounds(client: httpx.AsyncClient) -> None:
    """One request must not fetch the table."""
    for limit, status in ((0, 422), (1, 200), (100, 200), (101, 422), (-1, 422), ("x", 422), ("9" * 5000, 422)):
        assert (await client.get("/repositories", params={"limit": limit})).status_code == status
    for offset, status in ((-1, 422), (0, 200), (2**31, 200), (2**63, 422)):
        assert (await client.get("/repositories", params={"offset": offset})).status_code == status


async def test_owner_and_language_match_whole_whatever_the_case(client: httpx.AsyncClient, empty_database: str) -> None:
    """People don't remember capitals; but `Java` is not `JavaScript`. The total counts what the filter lets through."""
    fill(
        empty_database,
        [("Team", "a", "Java", None), ("team-b", "b", "JavaScript", None), ("ÉQUIPE", "c", "C++", None)],
    )
    assert await names(client, owner="tEAM") == ["a"]
    assert await names(client, language="java") == ["a"]
    assert await names(client, language="c++") == ["c"]
    assert await names(client, owner="team", language="javascript") == []
    assert await names(client, owner="ÉQUIPE") == ["c"]
    page = (await client.get("/repositories", params={"owner": "team", "limit": 1})).json()
    assert page["total"] == 1


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("%", ["per%cent"]),
        ("_", ["under_score"]),
        ("\\", ["back\\slash"]),
        ("/", ["back\\slash", "per%cent", "plain", "under_score"]),
        ("PLAIN", ["plain"]),
        ("a 🎉", ["plain"]),
        ("'; DROP TABLE repositories; --", []),
        ("o/pla", ["plain"]),
        ("*", []),
    ],
)
async def test_a_search_takes_every_character_as_it_is(
    client: httpx.AsyncClient, empty_database: str, q: str, found: list[str]
) -> None:
    """`%` finds names that hold a percent sign, not everything."""
    fill(
        empty_database,
        [
            ("o", "per%cent", None, None),
            ("o", "under_score", None, None),
            ("o", "back\\slash", None, None),
            ("o", "plain", None, "with a 🎉"),
        ],
    )
    assert await names(client, q=q) == found
