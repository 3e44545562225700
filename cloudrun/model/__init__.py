"""The words of cloudrun as frozen data: need, offer, plan, machine, run. No I/O here."""
