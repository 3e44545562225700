"""The launcher: from a need to a report, and nothing left behind."""
