"""What pip and uv say when an installation fails, in plain words.

Pure: the end of the installer's output comes in, an error comes out. The
patterns are pip's, uv's and setuptools' own words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cloudrun.errors import BadData, CloudrunError, WorkloadFailed
from cloudrun.model.words import clean

# Pattern in the output, the error, why it is ("{built}": what is built from source),
# what to do. The first that matches counts: without a network pip says at last that
# there is no such package, and a build that lacks a compiler is a failed build too.
_MISSING = [
    (
        r"No space left on device|Disk quota exceeded|os error 28|os error 122",
        WorkloadFailed,
        "The disk became full.",
        "Free some space on the machine ('pip cache purge', ~/.cloudrun/environments), or take "
        "one with a larger disk.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError|invalid peer certificate",
        WorkloadFailed,
        "It does not trust the package index's certificate.",
        "Is the machine's clock right? Behind a company's proxy, on the machine: 'pip config set "
        "global.cert FILE'.",
    ),
    (
        r"Temporary failure in name resolution|Name or service not known|NewConnectionError|"
        r"Failed to establish a new connection|ConnectTimeoutError|ReadTimeoutError|"
        r"Network is unreachable|No route to host|ProxyError|"
        r"dns error|error sending request|Could not connect|client error \(Connect\)",
        WorkloadFailed,
        "The machine does not reach the package index: it has no internet access.",
        "Give it some (a NAT gateway, or a proxy in https_proxy), or use an image that has what "
        "you need.",
    ),
    (
        r"command '?[^'\n]*(?:gcc|g\+\+|clang|cc|c\+\+|nvcc)'? failed: No such file|"
        r"unable to execute '[^']*(?:gcc|g\+\+|clang|cc|c\+\+)'|"
        r"No CMAKE_(?:C|CXX)_COMPILER could be found|"
        r"(?:gcc|g\+\+|cc|clang): (?:command )?not found|Unknown compiler\(s\)|"
        r"linker `cc` not found",
        WorkloadFailed,
        "{built} has no finished wheel for this Python, and there is no compiler to build it.",
        "Install one on the machine (sudo apt install build-essential python3-dev), or ask for a "
        "version that has a wheel.",
    ),
    (
        r"Python\.h: No such file",
        WorkloadFailed,
        "{built} is built from source, and Python's header files are missing.",
        "Install them on the machine: sudo apt install python3-dev",
    ),
    (
        r"can't find Rust compiler|cargo[^\n]*not found|Cargo, the Rust package manager",
        WorkloadFailed,
        "{built} has no finished wheel for this Python, and there is no Rust compiler.",
        "Ask for a version that has a wheel, or install Rust on the machine.",
    ),
]
_WRONG = [
    (
        r"Invalid requirement|Couldn't parse requirement|Expected end or semicolon|"
        r"no such comparison operator|Expected package name",
        BadData,
        "A line of them is no requirement.",
        "Look at that line: one 'name' or 'name==version' a line.",
    ),
    (
        r"Could not open requirements file|Error parsing included file|"
        r"neither a file nor a directory|"
        r"does not appear to be a Python project|is not a valid editable requirement|"
        r"looks like a path|Requirement [^\n]* does not exist|File not found: ",
        BadData,
        "They name a file or a folder, and only the list itself is brought over.",
        "Write what that file lists into the list itself; your own code needs no installation.",
    ),
    (
        r"Failed (?:to build|building wheel for)|metadata-generation-failed|"
        r"subprocess-exited-with-error",
        WorkloadFailed,
        "{built} is built from source, and that fails.",
        "Ask for a version that has a wheel for this Python, or read the log.",
    ),
]
_CONFLICT = r"ResolutionImpossible|conflicting dependencies"
_UV_CONFLICT = r"your requirements are unsatisfiable|No solution found"
_UNKNOWN = (
    r"No matching distribution found for (?P<pip>[^\s;]+)|"
    r"Because (?P<uv>\S+) was not found in the package registry|"
    r"Because there is no version of (?P<uv_version>\S+) and you require"
)
_VERSIONS = r"Could not find a version that satisfies [^\n]*\(from versions: (?P<versions>[^)]*)"
_BUILT = (
    r"(?:Failed building|Building|Could not build) wheels? for ([\w.-]+)|"
    r"Failed to build [`']?([\w.-]+)"
)
_NOISE = r"<[^<>]* object at 0x[0-9a-f]+>: ?|^WARNING: Retrying \(Retry\(.*?\)\) after "
_AN_ERROR = r"^(?:ERROR|error|fatal error|\u00d7|\u2570\u2500\u25b6)[:\s]"


@dataclass(frozen=True)
class Place:
    """Where it happened, as the sentences say it: the machine, its Python, the log's path."""

    machine: str
    python: str
    log: str


def explain(output: str, place: Place, of_user: bool) -> CloudrunError:
    """Turn an installer's output into an error that says what to do.

    Args:
        output: The end of what it said.
        place: Where it happened.
        of_user: It was installing the user's requirements, not torch alone.
    """
    what = f"{'Your requirements' if of_user else 'torch'} could not be installed on {{}}."
    kind, why, remedy = _judge(output, place)
    return kind(what.format(place.machine), f"{why} The whole log is there: {place.log}", remedy)


_Row = tuple[str, type[CloudrunError], str, str]
_Verdict = tuple[type[CloudrunError], str, str]


def _judge(output: str, place: Place) -> _Verdict:
    known = _known(_MISSING, output)
    if known:
        return known
    if re.search(_CONFLICT, output):
        return _conflict(output)
    unknown = re.search(_UNKNOWN, output)
    if unknown:
        return _unknown(next(filter(None, unknown.groups())), output, place)
    if re.search(_UV_CONFLICT, output):
        return _conflict(output)
    line = _line(output, _AN_ERROR)
    return _known(_WRONG, output) or (WorkloadFailed, f"The installer says: {line}", "")


def _known(table: Sequence[_Row], output: str) -> _Verdict | None:
    for pattern, kind, sentence, remedy in table:
        if re.search(pattern, output):
            why = f"{sentence.format(built=_built(output))} It says: {_line(output, pattern)}"
            return kind, why, remedy
    return None


def _conflict(output: str) -> _Verdict:
    asked = r"^\s*(?:cause: )?(The user requested .*|\S+ \S+ depends on .*|.*[Bb]ecause .*)$"
    parts = [line.strip() for line in re.findall(asked, output, re.MULTILINE)]
    line = clean("; ".join(parts[:4]))[:400] or _line(output, _AN_ERROR)
    why = f"They contradict each other, or the torch that fits the machine: {line}"
    remedy = "Loosen one of the versions. A torch that you pin yourself ('torch==2.9.0') is taken."
    return BadData, why, remedy


def _unknown(wanted: str, output: str, place: Place) -> _Verdict:
    name = clean(wanted)[:100]
    told = re.search(_VERSIONS, output)
    versions = told.group("versions").strip() if told else ""
    if re.match(r"torch(?![\w-])", name):
        return (
            WorkloadFailed,
            f"There is no wheel of {name} for {place.python}.",
            "Install another Python on the machine (sudo apt install python3.12-venv, or: uv "
            "python install 3.12), or ask for another version of torch.",
        )
    if versions in ("", "none") and "==" in name:
        why = f"The package index has no {name} for {place.python}."
        return BadData, why, "Ask for a version that there is."
    if versions in ("", "none"):
        why = f"The package index has no {name} for {place.python}."
        return BadData, why, "Look at the name's spelling in your requirements."
    newest = ", ".join(clean(versions).split(", ")[-3:])[:100]
    why = f"There is no {name} for {place.python}; the newest there are {newest}."
    return BadData, why, "Ask for a version that there is."


def _built(output: str) -> str:
    """Which requirement is built from source, as far as it is told."""
    found = re.search(_BUILT, output)
    return clean(found.group(1) or found.group(2)) if found else "A requirement"


def _line(output: str, pattern: str) -> str:
    """The line that says why: the last with the pattern in it, else the last of all."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    fitting = [line for line in lines if re.search(pattern, line)]
    line = re.sub(_NOISE, "", (fitting or lines or ["nothing."])[-1])
    return clean(line)[:400]
