"""W&B's client: where it sends rows, how a run is begun with it, what it refuses and why."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from typing import Any

from accelerando.checks import UsageError
from accelerando.interruption import signals_blocked
from accelerando.wandb_mirror import sweep_agent
from accelerando.wandb_mirror.run_metadata import USER_EDITED

ATTEMPTS = 5
"""Times to try, a second apart, to begin a run that W&B says is in use."""
OLDEST = (0, 31)
"""Version of the client that this was written for."""
LAST_UPLOAD = 120.0
"""Seconds that the end of a run waits for W&B, unless WANDB_FINISH_TIMEOUT says otherwise; five
times as many where nothing else waits."""
POLL = 0.2
"""Seconds between two looks at signals while W&B is waited for."""
MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline"}
MODES["disabled"] = "disabled"
"""What WANDB_MODE may say, and what it means."""


def mode_from_environment() -> str:
    """What WANDB_MODE says; "" where it is not set."""
    return os.environ.get("WANDB_MODE", "")


def finish_timeout() -> float:
    """Seconds that the end of a run waits for W&B; half in a SLURM job, whose own end may be near.

    A job is told two minutes before, and must be left to put itself back into the queue.
    """
    return LAST_UPLOAD / (2 if "SLURM_JOB_ID" in os.environ else 1)


def resolve_mode(mode: str) -> str:
    """``auto`` becomes WANDB_MODE where that is set, online where logged in, else offline.

    Raises:
        UsageError: WANDB_MODE says what no client knows.
    """
    if mode != "auto":
        return mode
    if asked := mode_from_environment():
        if asked not in MODES:
            raise UsageError(
                f"WANDB_MODE={asked} is no mode: set it to online, offline or disabled, or unset it"
            )
        return MODES[asked]
    import wandb

    return "online" if wandb.login(prompt=False, verify=False) else "offline"


class Unavailable(UsageError):
    """W&B takes no run from here now: whoever has more of them need not try."""


def init_run(
    notify: Callable[[str], None],
    *,
    identity: str,
    mode: str,
    must: bool,
    known: bool,
    check_interrupt: Callable[[], None],
    settings: Mapping[str, Any],
    **arguments: Any,
) -> Any:
    """Begin a run, or go on with it.

    Args:
        notify: told where something else happens than was asked for.
        identity: the run's id; a new one is drawn where a run of that id was deleted.
        mode: online or offline.
        must: whether to refuse, rather than go offline, where W&B cannot be reached.
        known: whether the server has the run, with what people may have changed there.
        check_interrupt: called while W&B is waited for; what it raises ends the waiting.
        settings: of the client, besides those that are always the same.
        arguments: of ``wandb.init``.

    Raises:
        Unavailable: W&B cannot be reached, knows no login, or needs a newer client.
        UsageError: W&B refuses the run.
    """
    import wandb

    _new_enough(wandb.__version__)
    # whoever started this process may have a W&B process, which ends with it and knows it alone
    os.environ.pop("WANDB_SERVICE", None)
    always = _settings(must=must)
    for _ in range(ATTEMPTS):
        given = {k: v for k, v in arguments.items() if not (known and k in USER_EDITED)}
        chosen = {**always, **settings, "mode": mode}
        try:
            return _apart(
                partial(wandb.init, id=identity, **given, settings=chosen), check_interrupt
            )
        except wandb.errors.Error as error:
            meaning, reason = _meaning(error)
            if meaning == DELETED and sweep_agent.sweep_id() is None:
                known, identity = False, f"{identity.partition('-')[0]}-{secrets.token_hex(3)}"
                notify(f"note: the W&B run was deleted there: sent again as {identity}")
            elif meaning == AWAY and mode == "online" and not must:
                notify(f"note: W&B cannot be reached ({reason}): this start is mirrored offline")
                mode = "offline"
            else:
                raise _refusal(meaning, reason) from error
        except Exception as error:  # of a private kind
            # W&B's own process takes a moment to see that the one it worked for was killed
            if "is in use" not in str(error):
                raise
            time.sleep(1)
    raise UsageError(f"W&B still works on the run {identity}, for another process: wait")


def _settings(*, must: bool) -> dict[str, Any]:
    """Those of the client that are always the same."""
    # a run that could not be closed would else be handed out in place of the next one
    found = {
        "silent": True,
        "console": "off",
        "reinit": "create_new",
        "finish_timeout_raises": True,
    }
    if "WANDB_FINISH_TIMEOUT" in os.environ:
        return found
    return {**found, "finish_timeout": finish_timeout() * (5 if must else 1)}


DELETED, AWAY, NO_LOGIN, REFUSED = "deleted", "away", "no login", "refused"
"""What a refusal of W&B's may mean: of the run, which was deleted there; of all runs; of this one
for another reason."""


def _meaning(error: Exception) -> tuple[str, str]:
    """What a refusal means, and its reason in one line."""
    from wandb.errors import AuthenticationError, CommError

    reason = " ".join(str(error).split("Consider increasing")[0].split()).rstrip(".")
    if "previously created and deleted" in reason:
        return DELETED, reason
    # a server that answers is not asked again; one that does not is asked until it is late
    if isinstance(error, CommError) and "timed out" in reason.lower():
        return AWAY, reason
    if isinstance(error, AuthenticationError) or "API key" in reason:
        return NO_LOGIN, reason
    return REFUSED, reason


def _refusal(meaning: str, reason: str) -> UsageError:
    if meaning == AWAY:
        return Unavailable(f"W&B cannot be reached: {reason}. Try again later")
    kind = Unavailable if meaning == NO_LOGIN else UsageError
    return kind(
        f"W&B refuses the run: {reason}. Log in with `wandb login`, name a project and an entity "
        "that you may write to (tracking.project, tracking.entity), or use tracking=offline"
    )


def _apart(call: Callable[[], Any], check_interrupt: Callable[[], None]) -> Any:
    """The result of a call, made in a thread that signals do not reach.

    W&B's own process, which is started there, inherits that they wait: SLURM signals every process
    of a job before its time limit, and the last rows are still to be sent. (SIGTERM it listens to
    by itself.) This thread hears them, so that a server that does not answer holds nobody up.
    """
    result: Future[Any] = Future()

    def work() -> None:
        with signals_blocked():
            try:
                result.set_result(call())
            except BaseException as error:
                result.set_exception(error)

    threading.Thread(target=work, name="to W&B", daemon=True).start()
    try:
        while not wait([result], timeout=POLL).done:
            check_interrupt()
    except BaseException:
        _end_client()
        raise
    return result.result()


def _end_client() -> None:
    """End W&B's own process, which has no row yet.

    Python would not exit before it has ended, nor it before its server has answered.
    """
    import wandb

    with suppress(Exception, SystemExit):  # as the client takes the end of its process
        wandb.setup()._connection._proc._process.kill()  # type: ignore[union-attr]
        wandb.teardown()


def _new_enough(version: str) -> None:
    parts = version.split(".")[:2]
    if all(part.isdigit() for part in parts) and tuple(map(int, parts)) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise Unavailable(f"wandb {version} is too old: pip install --upgrade 'wandb>={wanted}'")
