"""`commandcenter` on a clock that is ahead by LATER_S seconds: what judges a release believes it is later.

Only reading the time is changed, in the commands and in the journal that they write.
"""

import os
from datetime import datetime, timedelta, tzinfo
from unittest.mock import patch

from ops.cli import main


def run() -> None:
    """Run the command line."""
    ahead = timedelta(seconds=float(os.environ["LATER_S"]))

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + ahead

    with patch("ops.release.judgements.datetime", Later), patch("ops.release.journal.datetime", Later):
        main()
