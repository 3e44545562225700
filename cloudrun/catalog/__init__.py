"""Facts: GPUs, instance types, dated prices, torch wheels; and look-ups over them."""
