"""What `prepare` does on the machine: look around, try a torch, make an environment.

Standard library only, Python 3.9 and newer. An order comes as one line of JSON
on stdin. What it says goes to stdout: JSON, a line each, marked "cloudrun: ".
It ends with all that it started when stdin ends (whoever gave the order is
gone) or when the order's time is over.
"""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import platform
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

HOME = os.path.expanduser("~")
ENVIRONMENTS = os.path.join(HOME, ".cloudrun", "environments")
PROVEN = os.path.join(HOME, ".cloudrun", "proven")
BEAT_S = 2.0
ASK_S = 20.0
PROBE_S = 240.0
MOST_PYTHONS = 60
TAIL_BYTES = 30000
# So long an environment is kept that nothing uses.
UNUSED_S = 30 * 24 * 3600
# The user's settings for pip stay as they are, but for what would change where it installs
# and what it says: without a retry it does not say that there is no network.
QUIET = {
    "PYTHONUNBUFFERED": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_RETRIES": "3",
    "PIP_USER": "0",
    "NO_COLOR": "1",
}

speaking = threading.Lock()
starting = threading.Lock()
running = set()
rubbish = set()


def main():
    """Carry out the order."""
    order = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=watch, args=(order["limit_s"],), daemon=True).start()
    answer = {"look": look, "probe": probe, "build": build}[order["action"]](order)
    say(**answer)
    sys.stdout.flush()
    # Without a wait for the thread that watches.
    os._exit(0)


def say(**message):
    """Say one thing. Nobody may be there to hear it."""
    with speaking, contextlib.suppress(OSError):
        print("cloudrun: " + json.dumps(message), flush=True)


def watch(limit_s):
    """Give a sign of life now and then; stop everything when nobody listens, or time is over."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        wait = max(0.0, min(BEAT_S, until - time.monotonic()))
        if select.select([0], [], [], wait)[0] and not os.read(0, 4096):
            break
        say(**{"is": "beat"})
    stop()


def stop():
    """End all that runs, take away what is half done, and end."""
    # Never given back: nothing is started any more.
    starting.acquire()
    for process in list(running):
        end(process)
    for path in list(rubbish):
        shutil.rmtree(path, ignore_errors=True)
    say(**{"is": "stopped"})
    os._exit(1)


def end(process):
    """End a process and its group. One that a hung driver holds does not die; it is left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)


def start(command, **more):
    """Start a process in a group of its own, to be ended by `stop`."""
    with starting:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
            encoding="utf-8",
            errors="replace",
            **more,
        )
        running.add(process)
    return process


def over(process):
    """Note that a process has ended. While everything is stopped, nothing goes on from here."""
    with starting:
        running.discard(process)


def ask(command, limit_s):
    """Run a command; gives its status (None: it took too long), its output and its errors."""
    process = start(command, stderr=subprocess.PIPE)
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        end(process)
        return None, "", ""
    finally:
        over(process)
    return process.returncode, out, err


# ---- look around


def look(order):
    """Say what this machine has: GPUs, Pythons and their torch, disk, uv, our environments."""
    driver = module("driver", order["driver_program"])
    with ThreadPoolExecutor(8) as pool:
        nvidia = pool.submit(driver.nvidia)
        pythons = list(pool.map(lambda path: about(path, order), candidates()))
        ours = list(pool.map(lambda path: about(path, order), sorted(environments())))
        seen = nvidia.result()
    version = seen.gpus[0].driver if seen and seen.gpus else ""
    return {
        "is": "seen",
        "system": platform.system(),
        "machine": platform.machine(),
        "python": sys.executable,
        "nvidia": seen and {"gpus": [vars(gpu) for gpu in seen.gpus], "problem": seen.problem},
        "pythons": with_proof(without_doubles(filter(None, pythons)), version),
        "environments": with_proof(filter(None, ours), version),
        "folder": ENVIRONMENTS,
        "free_bytes": shutil.disk_usage(nearest(ENVIRONMENTS)).free,
        "uv": tool("uv"),
    }


def module(name, source):
    """Make a module of its source."""
    made = types.ModuleType(name)
    sys.modules[name] = made
    exec(source, made.__dict__)  # noqa: S102 - it came with this very program
    return made


def candidates():
    """The Pythons to look at, best first: one in use, an image's, the user's, the system's."""
    in_use = [os.environ.get("VIRTUAL_ENV"), os.environ.get("CONDA_PREFIX")]
    # AWS's images have their torch in /opt/pytorch, Azure's have /anaconda.
    homes = [*filter(None, in_use), "/opt/pytorch"]
    homes += [os.path.join(HOME, name) for name in (".venv", "venv", "env")]
    homes += [home for root in condas() for home in (root, *sorted(glob.glob(root + "/envs/*")))]
    paths = [os.path.join(home, "bin", "python") for home in homes]
    names = ["python3", "python"] + ["python3.%d" % minor for minor in range(14, 8, -1)]
    paths += filter(None, (tool(name) for name in names))
    for pattern in ("/.pyenv/versions/*/bin/python3", "/.local/share/uv/python/*/bin/python3"):
        paths += sorted(glob.glob(HOME + pattern), reverse=True)
    usable = [path for path in dict.fromkeys(paths) if os.access(path, os.X_OK)]
    return usable[:MOST_PYTHONS]


def condas():
    """Where conda and its likes are at home."""
    names = ("miniconda3", "miniforge3", "anaconda3", "mambaforge", "conda")
    roots = [os.path.join(place, name) for place in (HOME, "/opt") for name in names]
    noted = []
    with contextlib.suppress(OSError), open(HOME + "/.conda/environments.txt") as file:
        noted = [line.strip() for line in file.readlines(20000)]
    return [root for root in (*roots, "/anaconda", *noted) if os.path.isdir(root)]


def tool(name):
    """The path of a program; of the user's own folder too, which is not always on the path."""
    places = [os.environ.get("PATH", ""), "/usr/local/bin", HOME + "/.local/bin"]
    places += [HOME + "/.cargo/bin"]
    return shutil.which(name, path=os.pathsep.join(places))


def environments():
    """The Pythons of our environments. One that is not whole has no such name."""
    paths = glob.glob(os.path.join(ENVIRONMENTS, "*", "bin", "python"))
    return [path for path in paths if is_recipe(path.split(os.sep)[-3])]


def about(path, order):
    """What a Python says of itself; None when it says nothing, or is too old for us."""
    try:
        _, said, _ = ask([path, "-c", order["about_program"]], ASK_S)
        told = json.loads(said.strip().splitlines()[-1])
    except (OSError, ValueError, IndexError):
        return None
    return {"path": path, **told} if "prefix" in told else None


def without_doubles(pythons):
    """One of each: `python3` and `python3.11` are often the same."""
    seen = {}
    for python in pythons:
        seen.setdefault((python["prefix"], *python["version"]), python)
    return list(seen.values())


def with_proof(pythons, driver):
    """Add to each whether its torch was seen to compute with this driver."""
    return [{**python, "proven": os.path.exists(proof(python, driver))} for python in pythons]


def proof(python, driver):
    """The file that stands for "this torch was seen to compute with this driver"."""
    key = "\n".join((driver, python["path"], python["torch"] or ""))
    return os.path.join(PROVEN, hashlib.sha256(key.encode()).hexdigest()[:32])


def nearest(path):
    """The nearest folder above that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


# ---- try a torch


def probe(order):
    """Try the torch of each of these Pythons until one computes."""
    failed = []
    for python in order["pythons"]:
        say(**{"is": "probing", "path": python["path"], "torch": python["torch"]})
        why = problem(python["path"], order)
        if why is None:
            remember(python, order["driver"])
            return {"is": "probed", "works": python["path"], "failed": failed}
        failed.append({"path": python["path"], "why": why})
    return {"is": "probed", "works": None, "failed": failed}


def problem(path, order):
    """Why a Python's torch does not compute; None when it does."""
    command = [path, "-c", order["probe_program"], order["device"]]
    try:
        status, said, errors = ask(command, PROBE_S)
    except OSError as error:
        return str(error)
    if status is None:
        return "It did not answer within %d s." % PROBE_S
    with contextlib.suppress(ValueError, IndexError):
        told = json.loads(said.strip().splitlines()[-1])
        # What torch warns of beforehand often says more than the error.
        return None if told.get("ok") else ("%s\n%s" % (told["why"], errors[-1500:]))[:3000]
    if status < 0:
        return "It was ended by signal %d.\n%s" % (-status, errors[-1500:])
    return "It ended with status %d.\n%s" % (status, errors[-1500:])


def remember(python, driver):
    """Note that this torch computes with this driver, for the next time."""
    os.makedirs(PROVEN, exist_ok=True)
    with open(proof(python, driver), "w") as file:
        file.write("%s torch %s driver %s\n" % (python["path"], python["torch"], driver))


# ---- make an environment


class Failed(Exception):
    """A step of the making failed."""


def build(order):
    """Make the environment, unless another has just made it."""
    name = os.path.join(ENVIRONMENTS, order["recipe"])
    log = name + ".log"
    try:
        os.makedirs(ENVIRONMENTS, exist_ok=True)
        os.chmod(ENVIRONMENTS, 0o700)
        with locked(name + ".lock") as alone:
            already = made(name, order)
            if alone and not already:
                tidy(name)
                remove_unused(name)
            python = already or make(name, log, order)
            touch(name)
    except Failed as failure:
        step, why = failure.args
        return {"is": "failed", "step": step, "why": why, "log": log, "tail": tail(log)}
    except OSError as error:
        return {"is": "failed", "step": "files", "why": str(error), "log": log, "tail": tail(log)}
    return {"is": "built", "path": python["path"], "torch": python["torch"]}


def make(name, log, order):
    """Make it under a name of its own; what is not finished is taken away again.

    It is made where it stays, as the scripts in it hold its path. The recipe's
    name is a link to it, made when all is well.
    """
    folder = "%s.%s" % (name, secrets.token_hex(4))
    rubbish.update((folder, folder + ".tmp"))
    try:
        with open(log, "w", encoding="utf-8") as file:
            fill(folder, order, file)
        python = checked(folder, name, order)
        publish(folder, name)
        rubbish.discard(folder)
        return python
    finally:
        for path in rubbish:
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def locked(path, wait=True):
    """Hold the lock of a recipe, so that two do not download the same gigabytes.

    Where the file system has no locks we go on without: nothing depends on it
    but the time it saves, and what is left of killed ones stays.
    """
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield False
                return
            say(**{"is": "step", "step": "wait"})
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
            return
        yield True


def made(name, order):
    """The environment that is there already and works; None when there is none."""
    path = os.path.join(name, "bin", "python")
    python = about(path, order) if os.path.exists(path) else None
    if python is None or (order["needs_torch"] and python["torch"] is None):
        return None
    if python["torch"] and not os.path.exists(proof(python, order["driver"])):
        if problem(path, order) is not None:
            return None
        remember(python, order["driver"])
    return python


def tidy(name):
    """Take away what killed ones left half done, and an environment that is broken."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name)
    for path in glob.glob(glob.escape(name) + ".*"):
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)


# ---- environments that nothing uses


def remove_unused(but):
    """Take away the environments that nothing has used for long; not this one, which is made."""
    names = {path.partition(".")[0] for path in os.listdir(ENVIRONMENTS)}
    found = [os.path.join(ENVIRONMENTS, name) for name in names if is_recipe(name)]
    old = [name for name in found if name != but and is_old(name)]
    # Torch may lie in one, and the packages that are used with it in another on top.
    kept = [name for name in found if name not in old]
    count = sum(remove(name) for name in old if not any(lies_on(top, name) for top in kept))
    if count:
        say(**{"is": "removed", "count": count})


def is_recipe(name):
    """Whether a name is that of an environment's recipe."""
    return re.fullmatch("[0-9a-f]{16}", name) is not None


def is_old(name):
    """Whether it was used long ago. One that does not tell is taken to be used now."""
    if not os.path.exists(name + ".used"):
        touch(name)
    return time.time() - os.path.getmtime(name + ".used") > UNUSED_S


def touch(name):
    """Note that an environment is used; so does each job that begins in it."""
    with contextlib.suppress(OSError), open(name + ".used", "a"):
        os.utime(name + ".used")


def lies_on(top, name):
    """Whether an environment sees the packages of another."""
    paths = glob.glob(glob.escape(top) + "/lib/python*/site-packages/cloudrun_between.pth")
    return any(name.encode() in contents(path) for path in paths)


def remove(name):
    """Take an environment away, unless it is being made, or a process is at work in it."""
    with locked(name + ".lock", wait=False) as alone:
        if not alone or in_use(name):
            return False
        tidy(name)
        for path in (name + ".log", name + ".used"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        return True


def in_use(name):
    """Whether a process was started from an environment, has it on its path or has loaded it."""
    wanted = name.encode()
    return any(
        wanted in contents(path)
        for what in ("cmdline", "environ", "maps")
        for path in glob.glob("/proc/[0-9]*/" + what)
    )


def contents(path):
    """A file's contents; nothing where it is gone, or another's."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def fill(folder, order, log):
    """Make the virtual environment and install into it."""
    temporary = folder + ".tmp"
    os.makedirs(temporary, mode=0o700)
    # A small /tmp is no place to unpack gigabytes in.
    more = {**os.environ, **QUIET, "TMPDIR": temporary}
    do("venv", venv_command(folder, order), log, more)
    python = os.path.join(folder, "bin", "python")
    if order["see_through"]:
        see_through(python, order)
    if order["torch"]:
        do("torch", [*installer(python, order), *order["torch"]], log, more)
    if order["requirements"] is not None:
        arguments = requirement_arguments(python, temporary, order)
        do("requirements", [*installer(python, order), *arguments], log, more)


def venv_command(folder, order):
    """The command that makes the virtual environment."""
    if order["uv"]:
        return [order["uv"], "venv", "--python", order["python"], folder]
    flags = ["--system-site-packages"] if order["system_site"] else []
    flags += ["--without-pip"] if order["pip_from_outside"] else []
    return [order["python"], "-m", "venv", *flags, folder]


def installer(python, order):
    """The command that installs into it."""
    if order["uv"]:
        return [order["uv"], "pip", "install", "--python", python]
    if order["pip_from_outside"]:
        return [order["pip_from_outside"], "-m", "pip", "--python", python, "install"]
    return [python, "-m", "pip", "install"]


def see_through(python, order):
    """Let the new environment see the packages of the one that it is made with.

    `--system-site-packages` shows those of the Python below both, not those of
    the environment between.
    """
    between = about(order["python"], order)
    fresh = about(python, order)
    if not between or not fresh:
        raise Failed("venv", "The new environment's Python does not start.")
    lines = ["import site; site.addsitedir(%r)\n" % folder for folder in between["sites"]]
    with open(os.path.join(fresh["purelib"], "cloudrun_between.pth"), "w") as file:
        file.writelines(lines)


def requirement_arguments(python, temporary, order):
    """The installer's arguments for the user's requirements; they leave torch as it is."""
    path = os.path.join(temporary, "requirements.txt")
    with open(path, "w", encoding="utf-8") as file:
        file.write(order["requirements"])
    arguments = ["-r", path]
    torch = (about(python, order) or {}).get("torch")
    if torch and torch != "unknown" and order["keep_torch"]:
        constraint = os.path.join(temporary, "constraints.txt")
        with open(constraint, "w") as file:
            file.write("torch==%s\n" % torch)
        arguments += ["-c", constraint]
    return arguments + order["indexes"]


def do(step, command, log, environment):
    """Run one step; what it says goes to the log, and its downloads are told."""
    say(**{"is": "step", "step": step})
    log.write("$ %s\n" % " ".join(command))
    log.flush()
    try:
        process = start(command, stderr=subprocess.STDOUT, env=environment)
    except OSError as error:
        raise Failed(step, str(error)) from error
    for line in process.stdout:
        log.write(line)
        log.flush()
        tell_of(line)
    status = process.wait()
    over(process)
    if status:
        raise Failed(step, "It ended with status %d." % status)


def tell_of(line):
    """Tell what takes its time: a large download, and the unpacking after it."""
    found = re.match(r"\s*Downloading (\S+) ?\(([\d.]+ ?[GM]i?B)", line)
    if found:
        file = urllib.parse.unquote(found.group(1).rpartition("/")[2])
        say(**{"is": "downloading", "file": file[-200:], "size": found.group(2)})
    elif line.startswith("Installing collected packages"):
        say(**{"is": "step", "step": "unpack"})


def checked(folder, name, order):
    """Look whether what was installed works; gives the Python under its lasting name."""
    path = os.path.join(folder, "bin", "python")
    python = about(path, order)
    if python is None:
        raise Failed("venv", "The new environment's Python does not start.")
    python["path"] = os.path.join(name, "bin", "python")
    if order["needs_torch"] and not python["torch"]:
        raise Failed("check", "torch is not there after its installation.")
    if python["torch"]:
        say(**{"is": "probing", "path": python["path"], "torch": python["torch"]})
        why = problem(path, order)
        if why is not None:
            raise Failed("check", why)
        remember(python, order["driver"])
    return python


def publish(folder, name):
    """Give the finished environment its name, at once or not at all."""
    link = folder + ".tmp/link"
    os.symlink(os.path.basename(folder), link)
    os.replace(link, name)


def tail(log):
    """The end of the log."""
    with contextlib.suppress(OSError), open(log, "rb") as file:
        file.seek(max(0, os.path.getsize(log) - TAIL_BYTES))
        return file.read().decode("utf-8", "replace")
    return ""


main()
