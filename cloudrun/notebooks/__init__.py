"""Notebooks for free GPUs: build one, link to it, read the reports out of those that ran."""
