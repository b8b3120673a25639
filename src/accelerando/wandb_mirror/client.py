"""Start a run with the W&B client: choose its mode, connect, and translate its errors."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

from accelerando.checks import UsageError
from accelerando.interruption import signals_blocked
from accelerando.wandb_mirror import sweep_agent, wandb_adapter
from accelerando.wandb_mirror.run_metadata import USER_EDITED
from accelerando.wandb_mirror.wandb_adapter import Rejection

INIT_ATTEMPTS = 5
"""How often to try, a second apart, to start a run that another process still uploads."""
FINISH_TIMEOUT = 120.0
"""Seconds that the end of a run waits for the upload, unless WANDB_FINISH_TIMEOUT is set; five
times as many when nothing but the upload is left to do."""
SIGNAL_CHECK_INTERVAL = 0.2
"""Seconds between two checks for signals while waiting for the server."""
MODES = {mode: mode for mode in ("online", "offline", "disabled")}
MODES |= {"run": "online", "dryrun": "offline"}
"""Values of WANDB_MODE, and the tracking mode that each selects."""


class Unavailable(UsageError):
    """W&B currently accepts no runs, so trying further ones is pointless."""


def mode_from_environment() -> str:
    """Return the value of WANDB_MODE, or "" if it is not set."""
    return os.environ.get("WANDB_MODE", "")


def finish_timeout() -> float:
    """Return how many seconds the end of a run waits for the upload: half in a SLURM job.

    SLURM warns a job two minutes before it ends, and the job must requeue itself in that time.
    """
    return FINISH_TIMEOUT / (2 if "SLURM_JOB_ID" in os.environ else 1)


def resolve_mode(mode: str) -> str:
    """Replace ``auto`` by WANDB_MODE if set, else ``online`` if logged in, else ``offline``.

    Raises:
        UsageError: WANDB_MODE has a value that W&B does not know.
    """
    if mode != "auto":
        return mode
    if requested := mode_from_environment():
        if requested not in MODES:
            raise UsageError(
                f"WANDB_MODE={requested} is not a valid mode: set it to online, offline or "
                "disabled, or unset it"
            )
        return MODES[requested]
    import wandb

    return "online" if wandb.login(prompt=False, verify=False) else "offline"


def init_run(
    notify: Callable[[str], None],
    *,
    run_id: str,
    mode: str,
    require_server: bool,
    on_server: bool,
    check_interrupt: Callable[[], None],
    settings: Mapping[str, Any],
    **arguments: Any,
) -> Any:
    """Create or resume a W&B run.

    Args:
        notify: called with a message when the run's id or mode differs from the requested one.
        run_id: id of the run; replaced by a new one if that run was deleted on the server.
        mode: online or offline.
        require_server: whether to raise, instead of going offline, if W&B cannot be reached.
        on_server: whether the server already has the run, possibly renamed or annotated by hand.
        check_interrupt: called repeatedly while waiting; may raise to stop waiting.
        settings: client settings in addition to the common ones.
        arguments: further arguments of ``wandb.init``.

    Raises:
        Unavailable: W&B cannot be reached, there is no login, or the client is too old.
        UsageError: W&B rejects this run.
    """
    import wandb

    if wandb_adapter.too_old(wandb.__version__):
        wanted = ".".join(map(str, wandb_adapter.MINIMUM_VERSION))
        raise Unavailable(
            f"wandb {wandb.__version__} is too old: pip install --upgrade 'wandb>={wanted}'"
        )
    wandb_adapter.detach_from_parent_service()
    settings = {**_common_settings(nothing_else_to_do=require_server), **settings}
    for _ in range(INIT_ATTEMPTS):
        sent = {k: v for k, v in arguments.items() if not (on_server and k in USER_EDITED)}
        init = partial(wandb.init, id=run_id, **sent, settings={**settings, "mode": mode})
        try:
            return _call_interruptibly(init, check_interrupt)
        except wandb.errors.Error as error:
            rejection, reason = wandb_adapter.classify_error(error)
            if rejection == Rejection.DELETED and sweep_agent.sweep_id() is None:
                on_server, run_id = False, f"{run_id.partition('-')[0]}-{secrets.token_hex(3)}"
                notify(f"note: the W&B run was deleted on the server; uploading it as {run_id}")
            elif rejection == Rejection.UNREACHABLE and mode == "online" and not require_server:
                notify(f"note: cannot reach W&B ({reason}); logging offline for now")
                mode = "offline"
            else:
                raise _rejection_error(rejection, reason) from error
        except Exception as error:  # wandb raises this one as a private type
            # the service of a process that was killed takes a moment to notice and exit
            if not wandb_adapter.is_run_in_use(error):
                raise
            time.sleep(1)
    raise UsageError(
        f"another process still uploads W&B run {run_id}: wait until it has ended, then rerun the "
        "same command"
    )


def _common_settings(*, nothing_else_to_do: bool) -> dict[str, Any]:
    common = {
        "silent": True,
        "console": "off",
        # by default the client would return a run that could not be closed in place of the next
        "reinit": "create_new",
        "finish_timeout_raises": True,
    }
    if "WANDB_FINISH_TIMEOUT" not in os.environ:
        common["finish_timeout"] = finish_timeout() * (5 if nothing_else_to_do else 1)
    return common


def _rejection_error(rejection: Rejection, reason: str) -> UsageError:
    if rejection == Rejection.UNREACHABLE:
        return Unavailable(f"cannot reach W&B: {reason}. Try again later")
    error_type = Unavailable if rejection == Rejection.NOT_LOGGED_IN else UsageError
    return error_type(
        f"W&B rejected the run: {reason}. Log in with `wandb login`, set tracking.project and "
        "tracking.entity to a project that you may write to, or use tracking=offline"
    )


def _call_interruptibly(call: Callable[[], Any], check_interrupt: Callable[[], None]) -> Any:
    """Return ``call()``, run in another thread so that this one can react to signals.

    That thread blocks signals, and the service process that W&B starts there inherits this: SLURM
    signals every process of a job before the time limit, but the last rows are still to be sent.
    (The service handles SIGTERM itself.)
    """
    result: Future[Any] = Future()

    def work() -> None:
        with signals_blocked():
            try:
                result.set_result(call())
            except BaseException as error:
                result.set_exception(error)

    threading.Thread(target=work, name="wandb.init", daemon=True).start()
    try:
        while not wait([result], timeout=SIGNAL_CHECK_INTERVAL).done:
            check_interrupt()
    except BaseException:
        wandb_adapter.kill_service()  # no row has been sent yet, so none is lost
        raise
    return result.result()
