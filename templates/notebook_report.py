"""Make the report of what was found, in the form that cloudrun's own runs have."""

import base64
import hashlib
import json
import os
import secrets
import zlib
from datetime import timezone

MIME = "application/vnd.cloudrun.report+json"
MARK = "CLOUDRUN_REPORT:"
# Some logs cut longer lines.
LONGEST_LINE = 7500
EVENTS = ("environment", "check", "measurement", "note", "finished")


def make_report(place, about, folder, parts, environment=None):
    """Put the report together.

    place: the service that this notebook runs on.
    about: what this notebook is: the version of cloudrun, workload, profile, how it was made.
    folder: where the programs are that were run.
    parts: what each run has said, by its name.
    environment: the machine, where no program tells of it.
    """
    runs = list(parts.values())
    said = [line for part in runs for line in part["said"]]
    lines = {name: [_rest(line) for line in said if line["event"] == name] for name in EVENTS}
    environments = lines["environment"] or [environment]
    name = new_id()
    return {
        "schema": "cloudrun.report/v1",
        "id": name,
        "run": {
            "id": name,
            "workload": about["workload"],
            "profile": about["profile"],
            "target": place,
        },
        "created": _moment(runs[0]["began"]),
        "provenance": {
            "cloudrun": about["cloudrun"],
            "workload_sha256": source_sha256(folder),
            "argv": about["argv"],
        },
        "machine": {"provider": place},
        "environment": environments[-1],
        "checks": lines["check"],
        "measurements": lines["measurement"],
        "timeline": [
            {
                "phase": "run",
                "started": _moment(part["began"]),
                "seconds": round(part["seconds"], 3),
                "predicted_seconds": 0.0,
                "usd": 0.0,
            }
            for part in runs
        ],
        "cost": {
            "usd": 0.0,
            "predicted_usd": 0.0,
            "basis": "free, unless the notebook's service charges for it",
        },
        "outcome": outcome(lines, about["steps"]),
        "notes": list(dict.fromkeys(line["text"] for line in lines["note"])),
    }


def _rest(line):
    return {key: value for key, value in line.items() if key != "event"}


def outcome(lines, steps):
    """Partial when not all came to an end, else failed when one check did, else passed."""
    hopeless = lines["finished"] and not lines["environment"]
    if len(lines["finished"]) < steps and not hopeless:
        return "partial"
    return "failed" if any(row["status"] == "fail" for row in lines["check"]) else "passed"


def new_id():
    """A random name for the report, without letters that look like digits."""
    letters = "abcdefghjkmnpqrstvwxyz"
    rest = (secrets.choice(letters + "23456789") for _ in range(11))
    return secrets.choice(letters) + "".join(rest)


def source_sha256(folder):
    """The hash of the programs as they ran: only reports with the same one can be compared."""
    paths = [os.path.join(base, name) for base, _, names in os.walk(folder) for name in names]
    by_name = {os.path.relpath(path, folder).replace(os.sep, "/"): path for path in paths}
    digest = hashlib.sha256()
    for name in sorted(by_name):
        if name.endswith(".py"):
            with open(by_name[name], "rb") as file:
                source = file.read().replace(b"\r\n", b"\n")
            digest.update(name.encode() + b"\0" + source + b"\0")
    return digest.hexdigest()


def _moment(when):
    return when.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def hand_over(report):
    """Give the report in three ways, since no notebook service keeps all of them for sure."""
    from IPython.display import display

    with open("results.json", "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
    summary = f"Report {report['id']}: {report['outcome']}. It is in results.json, too."
    display({MIME: report, "text/plain": summary}, raw=True)
    for line in report_lines(report):
        print(line)


def report_lines(report):
    """The report as lines for a log: one of JSON, or where that is long, numbered pieces of it."""
    text = json.dumps(report, separators=(",", ":"))
    if len(text) <= LONGEST_LINE:
        return [MARK + text]
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    pieces = [packed[at : at + LONGEST_LINE] for at in range(0, len(packed), LONGEST_LINE)]
    return [
        MARK + json.dumps({"id": report["id"], "part": number, "of": len(pieces), "zlib": piece})
        for number, piece in enumerate(pieces, start=1)
    ]


def offer_download(file):
    """In Colab, let the browser fetch the file; elsewhere it lies beside the notebook."""
    try:
        from google.colab import files
    except ImportError:
        print(f"{file} lies beside this notebook.")
    else:
        files.download(file)
