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
from omegaconf import DictConfig

from hydra_plugins.accelerando_launcher.jobs import composed, returned


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
        from accelerando.launch.submission import submit_sweep
        from accelerando.launch.todo import Planned

        assert self.config is not None
        sweeper = self.config.hydra.sweeper._target_
        if not self.params["wait"] and not sweeper.endswith(".BasicSweeper"):
            raise UsageError(
                f"{sweeper} goes by the results of its runs: wait for them with "
                "hydra.launcher.wait=true, or leave the sweeper out"
            )
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        runs = [
            Planned(self._composed(words, number), words, self._call(words, number))
            for words, number in zip(job_overrides, numbers, strict=True)
        ]
        values = submit_sweep(runs, self.params)
        return [
            returned(run.overrides, run.config, value)
            for run, value in zip(runs, values, strict=False)
        ]

    def _composed(self, words: Sequence[str], number: int) -> DictConfig:
        assert self.hydra_context is not None
        return composed(self.hydra_context, self.config, words, number)

    def _call(self, words: Sequence[str], number: int) -> Any:
        """What is called on the node: what the official launcher does there."""
        state = Singleton.get_state()
        return partial(
            _called, self, list(words), "hydra.sweep.dir", number, f"job_id_for_{number}", state
        )


def _called(launcher: DetachedLauncher, *arguments: Any) -> Any:
    """The run's result, or its failure: the official launcher keeps failures to itself."""
    return launcher(*arguments).return_value
