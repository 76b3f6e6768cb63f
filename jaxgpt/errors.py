"""The two ways a command ends early: the user can mend it (exit 2), or it failed (exit 1)."""

INTERRUPTED = 130  # the exit code after Ctrl-C, as shells have it


class UserError(Exception):
    """Bad input: the message says which field or file, what was given, what is allowed and what to do."""

    exit_code = 2


class RunError(Exception):
    """The input was fine but the work could not be done (a full disk, a broken checkpoint)."""

    exit_code = 1
