"""Stand-ins for engine and Compose that only write down what they are asked, and answer as told."""

import json
import sys
from pathlib import Path
from typing import Any, Final

from ops.release.compose import ComposeTarget

# Notes what it was called with, then says what the folder of answers has for its first words.
ENGINE: Final = """#!{python}
import json, os, pathlib, signal, sys
here = pathlib.Path({here!r})
words = sys.argv[1:]
names = ("COMMANDCENTER_VERSION", "COMMANDCENTER_COMMIT", "CORRELATION_ENABLED", "COMPOSE_FILE")
settings = {{name: os.environ[name] for name in names if name in os.environ}}
call = {{"words": [pathlib.Path(sys.argv[0]).name, *words], "env": settings}}
with (here / "calls").open("a") as out:
    out.write(json.dumps(call) + "\\n")
if words[0] == "build":
    # What the image would be made of, as it lay there.
    context = pathlib.Path(words[-1])
    (here / "context").write_text("\\n".join(sorted(str(p.relative_to(context)) for p in context.rglob("*"))))
for name in sorted(os.listdir(here / "answers")):
    if all(word in words for word in name.split()):
        answer = json.loads((here / "answers" / name).read_text())
        if answer["hup"]:
            os.kill(answer["hup"], signal.SIGHUP)
        sys.stdout.write(answer["out"])
        sys.stderr.write(answer["err"])
        sys.exit(answer["rc"])
"""


class Programs:
    """The script under both names, what it was asked, and what it answers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "answers").mkdir()
        for name in ("engine", "composer"):
            script = folder / name
            script.write_text(ENGINE.format(python=sys.executable, here=str(folder)))
            script.chmod(0o755)

    def answer(self, words: str, out: str = "", err: str = "", rc: int = 0, hup: int = 0) -> None:
        """Answer so where all these words are among the arguments; `hup`: a process that gets SIGHUP before."""
        told = {"out": out, "err": err, "rc": rc, "hup": hup}
        (self._folder / "answers" / words).write_text(json.dumps(told))

    def calls(self) -> list[dict[str, Any]]:
        """Return all it was called with, in order."""
        file = self._folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def words(self, program: str) -> list[list[str]]:
        """Return the arguments of one program's calls."""
        return [call["words"][1:] for call in self.calls() if call["words"][0] == program]

    def environment(self, word: str) -> dict[str, str]:
        """Return the settings that the one call with this word was given."""
        [found] = [call["env"] for call in self.calls() if word in call["words"]]
        return dict(found)

    @property
    def context(self) -> list[str]:
        """What lay in the folder that an image was built from."""
        return (self._folder / "context").read_text().splitlines()


NEW: Final = {"commit": "aaaaaaaaaaaa", "switches": {}, "stopped": []}


def folder_of(target: ComposeTarget) -> Path:
    folder = target.checkout / ".commandcenter"
    folder.mkdir(exist_ok=True)
    return folder
