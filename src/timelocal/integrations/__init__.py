"""timelocal inside other people's frameworks; each file needs its extra."""
