"""The parts of benchmarks/ssh.py. The files `with_*.py` are programs of their own."""
