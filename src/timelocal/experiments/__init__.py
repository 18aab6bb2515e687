"""Experiments: frozen configurations, and a run of one of them."""

from timelocal.optional import require

require("pydantic", "sklearn", extra="cli", for_="timelocal.experiments")
