"""What pip 23, uv 0.13 and setuptools say, and what is made of it."""

from __future__ import annotations

import pytest

from cloudrun.errors import BadData, CloudrunError, WorkloadFailed
from cloudrun.hosts.install_faults import Place, explain

PLACE = Place("me@box", "Python 3.11.2", "/home/me/.cloudrun/environments/x.log")

NO_NAME = """\
WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after \
connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object \
at 0x7fdda1df6d50>: Failed to establish a new connection: [Errno -3] Temporary failure in name \
resolution')': /simple/nosuch/
ERROR: Could not find a version that satisfies the requirement nosuch (from versions: none)
ERROR: No matching distribution found for nosuch
"""
NO_COMPILER = """\
  Building wheel for fasttext (setup.py): finished with status 'error'
  error: subprocess-exited-with-error
      building 'fasttext_pybind' extension
      error: command 'x86_64-linux-gnu-g++' failed: No such file or directory
      [end of output]
  note: This error originates from a subprocess, and is likely not a problem with pip.
  ERROR: Failed building wheel for fasttext
ERROR: Failed to build installable wheels for some pyproject.toml based projects (fasttext)
"""
HEADERS = """\
  Building wheel for psutil (pyproject.toml): finished with status 'error'
      psutil/arch/all/init.h:14:10: fatal error: Python.h: No such file or directory
      error: command '/usr/bin/gcc' failed with exit code 1
ERROR: Failed building wheel for psutil
"""
NO_VERSION = """\
ERROR: Could not find a version that satisfies the requirement numpy==99 (from versions: 1.3.0, \
2.3.0, 2.3.1, 2.3.2)
ERROR: No matching distribution found for numpy==99
"""
CONFLICT = """\
ERROR: Cannot install left==1.0 and gadget>=1 because these package versions have conflicting \
dependencies.

The conflict is caused by:
    The user requested gadget>=1
    left 1.0 depends on gadget<1

ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/\
dependency-resolution/#dealing-with-dependency-conflicts
"""
UV_CONFLICT = """\
error: No solution found when resolving dependencies
  cause: Because all versions of left depend on gadget<1 and you require left, we can conclude \
that you require gadget<1.
         And because you require gadget>=1, we can conclude that your requirements are \
unsatisfiable.
"""
UV_UNKNOWN = """\
error: No solution found when resolving dependencies
  cause: Because nosuch was not found in the package registry and you require nosuch, we can \
conclude that your requirements are unsatisfiable.
"""
UV_NO_VERSION = """\
error: No solution found when resolving dependencies
  cause: Because there is no version of gadget==7 and you require gadget==7, we can conclude that \
your requirements are unsatisfiable.
"""
UV_NO_NAME = """\
error: Request failed after 3 retries in 6.3s
  cause: Failed to fetch: https://index.example/simple/torch/
  cause: error sending request for url (https://index.example/simple/torch/)
  cause: client error (Connect)
  cause: dns error
  cause: error resolving DNS
  cause: failed to lookup address information: Temporary failure in name resolution
"""
UV_NO_COMPILER = """\
error: Failed to build `built==1.0`
  cause: The build backend returned an error
  cause: Call to `backend.get_requires_for_build_wheel` failed (exit status: 1)

         [stderr]
         error: command 'gcc' failed: No such file or directory

hint: Build failures usually indicate a problem with the package or the build environment
"""
UV_OTHER_FILE = """\
error: Error parsing included file in `/x.tmp/requirements.txt` at position 0
  cause: failed to read from file `/x.tmp/more.txt`: No such file or directory (os error 2)
"""
UV_SYNTAX = """\
error: Couldn't parse requirement in `/x.tmp/requirements.txt` at position 0
  cause: no such comparison operator "=", must be one of ~= == != <= >= < > ===
         gadget = 1
                ^^^
"""


@pytest.mark.parametrize(
    ("output", "kind", "why", "remedy"),
    [
        (NO_NAME, WorkloadFailed, "no internet access", "NAT gateway"),
        (UV_NO_NAME, WorkloadFailed, "no internet access", "NAT gateway"),
        (NO_COMPILER, WorkloadFailed, "fasttext has no finished wheel", "build-essential"),
        (HEADERS, WorkloadFailed, "psutil is built from source", "python3-dev"),
        (NO_VERSION, BadData, "no numpy==99 for Python 3.11.2; the newest there are", "there is"),
        (CONFLICT, BadData, "requested gadget>=1; left 1.0 depends on gadget<1", "Loosen"),
        (UV_CONFLICT, BadData, "left depend on gadget<1", "Loosen"),
        (UV_NO_VERSION, BadData, "no gadget==7", "a version that there is"),
        (UV_NO_COMPILER, WorkloadFailed, "built has no finished wheel", "build-essential"),
        (UV_OTHER_FILE, BadData, "only the list itself", "into the list"),
        (UV_SYNTAX, BadData, "no such comparison operator", "Look at that line"),
        (UV_UNKNOWN, BadData, "no nosuch", "spelling"),
        (
            "ERROR: Could not find a version that satisfies the requirement torch==2.1 (from "
            "versions: none)\nERROR: No matching distribution found for torch==2.1\n",
            WorkloadFailed,
            "no wheel of torch==2.1 for Python 3.11.2",
            "python3.12",
        ),
        (
            "ERROR: No matching distribution found for torch-geometrie\n",
            BadData,
            "no torch-geometrie",
            "spelling",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on "
            "device\n",
            WorkloadFailed,
            "disk became full",
            "Free some space",
        ),
        (
            "ERROR: Could not open requirements file: [Errno 2] No such file or directory: "
            "'base.txt'\n",
            BadData,
            "only the list itself",
            "into the list",
        ),
        (
            "ERROR: Invalid requirement: 'numpy = 2' (from line 3 of requirements.txt)\n",
            BadData,
            "numpy = 2",
            "Look at that line",
        ),
        (
            "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate "
            "verify failed: certificate is not yet valid'))\n",
            WorkloadFailed,
            "certificate",
            "clock",
        ),
        ("  ERROR: something new\x1b[2J\nmore\n", WorkloadFailed, "something new?[2J", ""),
        ("", WorkloadFailed, "nothing", ""),
    ],
)
def test_each_fault_has_its_sentence(
    output: str, kind: type[CloudrunError], why: str, remedy: str
) -> None:
    error = explain(output, PLACE, of_user=True)
    assert type(error) is kind
    assert error.what == "Your requirements could not be installed on me@box."
    assert why in error.why
    assert PLACE.log in error.why
    assert remedy in error.try_this
    assert " object at 0x" not in error.why
    assert str(error).isprintable()
