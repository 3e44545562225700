"""Hosts: an open connection to a machine that runs commands and moves files."""
