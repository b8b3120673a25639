"""What sbatch is asked for, from the settings of the command line."""

from __future__ import annotations

from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from accelerando.config import register
from accelerando.launch.parameters import parameters
from conftest import ROOT


def asked(*words: str) -> dict[str, Any]:
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", list(words), return_hydra_config=True)
    settings: Any = OmegaConf.to_container(config.hydra.launcher)
    del settings["_target_"]
    return parameters(settings, config.hardware.processes, config.hardware.threads)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["hardware=slurm_cpu"], (1, 1, None)),
        (["hardware=slurm_gpu"], (1, 1, 1)),
        (["hardware=slurm_multi_gpu"], (1, 4, 4)),
        (["hardware=slurm_multi_gpu", "hardware.processes=8"], (2, 4, 4)),
        (["hardware=slurm_multi_gpu", "hardware.processes=2"], (1, 2, 2)),
        (["hardware=slurm_multi_gpu", "hardware.processes=4", "hydra.launcher.nodes=2"], (2, 2, 2)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_no_gpu_idles(words: list[str], expected: tuple[int, int, int | None]) -> None:
    found = asked(*words)
    names = ("nodes", "tasks_per_node", "gpus_per_node")
    assert tuple(found[name] for name in names) == expected
