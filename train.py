"""Train a run, or with -m a sweep: ``python train.py scheduler=warmup_increase -m seed=0,1,2``."""

import hydra
from omegaconf import DictConfig

from accelerando.entry import command_line, train


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    """Return the minimum full gradient norm of the run, the objective of Hydra sweepers."""
    return train(config)


if __name__ == "__main__":
    with command_line():
        main()
