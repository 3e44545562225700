"""The errors of cloudrun: one tree, each with its exit status.

An error is a short paragraph for a person: what happened, why, and what to
try. `kind` is the same thing for a program; it never changes once released.
The exit statuses follow BSD's sysexits where there is one that fits.
"""

from __future__ import annotations

# As typing has it, which takes milliseconds to import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal


class CloudrunError(Exception):
    """Base of every error that cloudrun raises on purpose.

    Args:
        what: What happened, one sentence.
        why: The reason, where it is known; may be empty.
        try_this: What the reader can do about it; may be empty.
    """

    kind = "bug"
    exit_status = 70

    def __init__(self, what: str, why: str = "", try_this: str = "") -> None:
        super().__init__(what, why, try_this)
        self.what = what
        self.why = why
        self.try_this = try_this

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.why, self.try_this) if part)


class WorkloadFailed(CloudrunError):
    """The workload ran and failed, or could not run at all."""

    kind = "workload_failed"
    exit_status = 1


class WrongUsage(CloudrunError):
    """The command line, or an argument of the library's functions, makes no sense."""

    kind = "wrong_usage"
    exit_status = 2


class BadData(CloudrunError):
    """A report or another file is damaged, foreign or from a newer version."""

    kind = "bad_data"
    exit_status = 65


class HostUnreachable(CloudrunError):
    """A host cannot be reached, or never became ready."""

    kind = "host_unreachable"
    exit_status = 68


class Unavailable(CloudrunError):
    """What was asked for cannot be had: no such device, no offer that fits."""

    kind = "unavailable"
    exit_status = 69


class CannotHave(Unavailable):
    """This offer cannot be had; others may.

    `scope` says which others cannot either: those of the same `zone` and type, all of
    the same `region` and market, or all of the same `cloud`. `elsewhere` are zones of
    which the cloud says that they can.
    """

    def __init__(
        self,
        what: str,
        why: str = "",
        try_this: str = "",
        *,
        scope: Literal["zone", "region", "cloud"],
        elsewhere: tuple[str, ...] = (),
    ) -> None:
        super().__init__(what, why, try_this)
        self.scope = scope
        self.elsewhere = elsewhere


class Bug(CloudrunError):
    """Something that should be impossible happened: a defect in cloudrun."""

    kind = "bug"
    exit_status = 70


class DeadlineReached(CloudrunError):
    """The run's deadline or cost ceiling came before its end."""

    kind = "deadline_reached"
    exit_status = 75


class Refused(CloudrunError):
    """A host's key is unknown or wrong, or it speaks another protocol: no byte goes there."""

    kind = "refused"
    exit_status = 76


class AccessDenied(CloudrunError):
    """Credentials are missing or wrong, or a permission is."""

    kind = "access_denied"
    exit_status = 77


class NoCredentials(AccessDenied):
    """There are none at all for a cloud: perhaps nobody ever meant to use it here."""


class BadSettings(CloudrunError):
    """A settings file, or a folder that cloudrun needs, cannot be used as it is."""

    kind = "bad_settings"
    exit_status = 78


class NotInstalled(BadSettings):
    """A part of cloudrun that an extra brings: perhaps nobody ever meant to use it here."""


class Terminated(KeyboardInterrupt):
    """The system asks this process to end (SIGTERM); nobody is there to be asked."""


class HungUp(Terminated):
    """The terminal, or the connection to it, has gone (SIGHUP)."""


class Interrupted(CloudrunError):
    """The user, or the system, asked cloudrun to stop."""

    kind = "interrupted"
    exit_status = 130
