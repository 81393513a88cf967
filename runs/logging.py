"""Where training metrics go: always CSV, and one more place if the configuration names it."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from typing import Protocol

import numpy as np

from jaxenv.errors import ConfigError
from runs.settings import Config
from runs.sweep import flat
from runs.tables import read_csv, write_csv


class Logger(Protocol):
    """One destination of training metrics."""

    def log(self, update: int, metrics: dict[str, np.ndarray]) -> None:
        """Records metrics with leaves ``[num_seeds]`` after ``update`` updates."""

    def close(self) -> None:
        """Flushes what is not yet written."""


class CSVLogger:
    """``metrics.csv``: one row per logged update and seed."""

    def __init__(self, path: Path, after: int = 0):
        self.path = path
        truncate_csv(path, after)
        self._file = path.open("a", newline="")
        self._writer = csv.writer(self._file)

    def log(self, update: int, metrics: dict[str, np.ndarray]) -> None:
        names = sorted(metrics)
        if self._file.tell() == 0:
            self._writer.writerow(["update", "seed", *names])
        for seed in range(len(metrics[names[0]])):
            self._writer.writerow([update, seed, *[metrics[name][seed] for name in names]])
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorBoardLogger:
    """TensorBoard event files in the run's folder, one tag per metric and seed."""

    def __init__(self, folder: Path):
        from tensorboard.summary import Writer

        self._writer = Writer(str(folder / "tensorboard"))

    def log(self, update: int, metrics: dict[str, np.ndarray]) -> None:
        for name, value in _by_seed(metrics).items():
            self._writer.add_scalar(name, value, update)

    def close(self) -> None:
        self._writer.close()


class WandbLogger:
    """A run of Weights & Biases; mode None is that of its own settings, as WANDB_MODE."""

    def __init__(self, folder: Path, config: Config, project: str, mode: str | None):
        import wandb

        self._run = wandb.init(
            project=project, mode=mode, dir=str(folder), name=folder.name, config=config
        )

    def log(self, update: int, metrics: dict[str, np.ndarray]) -> None:
        self._run.log(_by_seed(metrics), step=update)

    def close(self) -> None:
        self._run.finish()


class MLflowLogger:
    """A run of MLflow; tracking_uri None is a database in the run's folder."""

    def __init__(self, folder: Path, config: Config, experiment: str, tracking_uri: str | None):
        import mlflow

        self._mlflow = mlflow
        database = f"sqlite:///{(folder / 'mlflow.db').absolute()}"
        self._mlflow.set_tracking_uri(tracking_uri or database)
        self._mlflow.set_experiment(experiment)
        self._mlflow.start_run(run_name=folder.name)
        self._mlflow.log_params(flat(config))

    def log(self, update: int, metrics: dict[str, np.ndarray]) -> None:
        self._mlflow.log_metrics(_by_seed(metrics), step=update)

    def close(self) -> None:
        self._mlflow.end_run()


LOGGERS = {"tensorboard": TensorBoardLogger, "wandb": WandbLogger, "mlflow": MLflowLogger}


def check_logger(config: Config) -> None:
    """Refuses a logger that is unknown or whose package is not installed."""
    name = config["logger"]["name"]
    if name not in ("csv", *LOGGERS):
        raise ConfigError("logger", name, f"choose one of csv, {', '.join(LOGGERS)}")
    if name != "csv" and importlib.util.find_spec(name) is None:
        raise ConfigError("logger", name, f"install it first: pip install 'jaxenv[{name}]'")


def make_loggers(folder: Path, config: Config, after: int) -> list[Logger]:
    """The loggers of a run that starts, or goes on, ``after`` that many updates."""
    loggers: list[Logger] = [CSVLogger(folder / "metrics.csv", after)]
    options = dict(config["logger"])
    name = options.pop("name")
    if name == "tensorboard":
        loggers.append(TensorBoardLogger(folder))
    elif name != "csv":
        try:
            loggers.append(LOGGERS[name](folder, config, **options))
        except Exception as error:  # whatever a service finds wrong with its settings
            why = str(error).strip().partition("\n")[0]
            raise ConfigError("logger", name, f"it could not start: {why}") from error
    return loggers


def truncate_csv(path: Path, after: int) -> None:
    """Drops the rows of ``path`` beyond update ``after``: they are about to be written again."""
    if not path.exists():
        return
    rows = [row for row in read_csv(path) if None not in row.values()]
    kept = [row for row in rows if int(row["update"]) <= after]
    if kept:
        write_csv(path, list(kept[0]), kept)
    else:
        path.unlink()


def _by_seed(metrics: dict[str, np.ndarray]) -> dict[str, float]:
    """``name/seed`` to value, and ``name`` to the mean over seeds."""
    flat = {name: float(np.mean(values)) for name, values in metrics.items()}
    for name, values in metrics.items():
        flat |= {f"{name}/{seed}": float(value) for seed, value in enumerate(values)}
    return flat
