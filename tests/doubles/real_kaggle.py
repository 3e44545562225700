"""Kaggle's own `kaggle`, led to a Kaggle on the loopback: run with the Python that has it.

    python real_kaggle.py ADDRESS FOLDER [ARGUMENTS OF kaggle]

Only where it goes is replaced.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

address, folder = sys.argv[1:3]
del sys.argv[1:3]
with (Path(folder) / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\n")
# Over plain HTTP, with a password.
os.environ |= {"KAGGLE_API_ENVIRONMENT": "LOCALHOST", "KAGGLE_USERNAME": "ada", "KAGGLE_KEY": "k"}

import kagglesdk.kaggle_env as environment  # noqa: E402

environment._env_to_endpoint[environment.KaggleEnv.LOCAL] = address

import kaggle.cli  # noqa: E402

kaggle.cli.main()
