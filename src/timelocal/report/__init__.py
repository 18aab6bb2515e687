"""Run folders in, one self-contained HTML page out.

load (`runs`) → groups, rows and statistics (`tables`) → curves (`figures`) and text (`words`,
`provenance`) → page (`page`, `templates/`).
"""

from timelocal.optional import require

require("jinja2", "markupsafe", "scipy", extra="report", for_="timelocal report")

from timelocal.report.page import write_report  # noqa: E402 — it imports what is checked above

__all__ = ["write_report"]
