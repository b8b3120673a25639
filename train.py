"""Train one run, or with -m many: ``python train.py scheduler=warmup_increase -m seed=0,1,2``."""

import hydra
from omegaconf import DictConfig

from accelerando.entry import command_line, train


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    """Minimum full gradient norm of the run, for sweepers that search."""
    return train(config)


if __name__ == "__main__":
    with command_line():
        main()
