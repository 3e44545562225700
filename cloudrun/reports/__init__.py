"""Reports: what a run leaves behind. Their schema, where they are kept, how they look."""
