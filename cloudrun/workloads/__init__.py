"""What runs on the machine: the smoke test and the benchmark.

Standard library and torch only, Python 3.9 and torch 2.0 or newer, and no
import of the rest of cloudrun: this folder is what gets pushed to a machine.
Run a workload directly with `python cloudrun/workloads/smoke.py`; it prints
lines of JSON (see `protocol`).
"""
