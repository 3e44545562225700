"""Providers: one module a cloud, behind the small protocol in `base`."""
