"""Hydra's door to SLURM: the official submitit launcher, but it submits and returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Optional

from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

from hydra_plugins.accelerando_launcher.jobs import called, composed, returned


@dataclass
class DetachedConf(SlurmQueueConf):  # type: ignore[misc]
    """The official launcher's settings, and what is different here."""

    _target_: str = "hydra_plugins.accelerando_launcher.slurm.DetachedLauncher"
    nodes: Optional[int] = None
    tasks_per_node: Optional[int] = None
    additional_parameters: Any = None  # a value that can be replaced as a whole
    runs_per_job: int = 1
    wait: bool = False


ConfigStore.instance().store(
    group="hydra/launcher", name="detached", node=DetachedConf(), provider="accelerando"
)


class DetachedLauncher(SlurmLauncher):  # type: ignore[misc]
    """Submits the runs of a multirun as job arrays, says their ids, and leaves.

    Args:
        settings: those of ``DetachedConf``.
    """

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        # not at the top: Hydra imports every plugin at every start
        from accelerando.checks import UsageError
        from accelerando.launch.planning import PlannedRun
        from accelerando.launch.submission import submit_sweep

        assert self.config is not None
        assert self.hydra_context is not None
        sweeper = self.config.hydra.sweeper._target_
        if not self.params["wait"] and not sweeper.endswith(".BasicSweeper"):
            raise UsageError(
                f"{sweeper} goes by the results of its runs: wait for them with "
                "hydra.launcher.wait=true, or leave the sweeper out"
            )
        runs = []
        for number, words in enumerate(job_overrides, initial_job_idx):
            # not on the node, as the official launcher does: by then its files may have changed
            config = composed(self.hydra_context, self.config, words, number)
            call = partial(
                called, self.hydra_context, self.task_function, config, Singleton.get_state()
            )
            runs.append(PlannedRun(config, words, call))
        values = submit_sweep(runs, self.params)
        return [
            returned(run.overrides, run.config, value)
            for run, value in zip(runs, values, strict=False)
        ]
