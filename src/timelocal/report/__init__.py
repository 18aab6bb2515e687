"""Run folders in, one self-contained HTML page out.

load (`runs`) → groups, rows and statistics (`tables`) → curves (`figures`) and text (`words`,
`provenance`) → page (`page`, `templates/`).
"""

from timelocal.report.page import write_report

__all__ = ["write_report"]
