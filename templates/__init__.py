"""What cloudrun renders or copies: installed as the package `cloudrun.templates`."""
