"""What is built: each file's text by its place under monitoring/."""

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import celery, database, errors, golden, overview, recording

MONITORING: Final = Path(__file__).resolve().parents[2] / "monitoring"
FOLDER: Final = Path("grafana", "dashboards")
_DASHBOARDS: Final = (overview, errors, database, celery, golden)


def render() -> dict[Path, str]:
    """Return the text of every file that this code makes; the same each time."""
    made = {Path("recording.yml"): recording.render()}
    for module in _DASHBOARDS:
        built = module.build()
        text = json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
        made[FOLDER / f"{built.uid}.json"] = text + "\n"
    return made


def write() -> list[Path]:
    """Write what differs and remove dashboards that are no more; return both."""
    stale = find_stale()
    made = render()
    for path in stale:
        file = MONITORING / path
        if path in made:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(made[path])
        else:
            file.unlink()
    return stale


def find_stale() -> list[Path]:
    """Return the files that are not what this code makes, those that it doesn't make included."""
    made = render()
    changed = {path for path, text in made.items() if not _is(MONITORING / path, text)}
    left_over = {file.relative_to(MONITORING) for file in (MONITORING / FOLDER).glob("*.json")} - set(made)
    return sorted(changed | left_over)


def _is(file: Path, text: str) -> bool:
    return file.exists() and file.read_text() == text
