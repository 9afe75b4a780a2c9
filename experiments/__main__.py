"""The command line: list, run, report. It parses and calls; everything else is imported when it is needed.

python -m experiments                                    what there is
python -m experiments NAME --config CONFIG [--field ...] run, or continue where it stopped
python -m experiments report FOLDER                      figures and report again, from what is stored
"""

import os
import sys
from pathlib import Path

from experiments.cores import usable_cores
from experiments.registry import EXPERIMENTS, UserError, find

EXIT_USER_ERROR = 2
EXIT_DIVERGED = 3


def usage() -> str:
    """What there is: every experiment with its configs."""
    lines = [
        "usage: python -m experiments NAME --config CONFIG [--folder PATH] [--tolerate-divergence] [--FIELD VALUE ...]",
        "       python -m experiments NAME --config CONFIG --help      every field, its type and default",
        "       python -m experiments report FOLDER                    figures and report again, from storage alone",
        "",
    ]
    for experiment in EXPERIMENTS.values():
        lines.append(f"{experiment.name:22}{experiment.summary}")
        lines.append(f"{'':22}{experiment.paper}; configs: {', '.join(experiment.config_table())}")
    return "\n".join(lines)


def take_option(arguments: list[str], name: str) -> str | None:
    """Remove `--name value` (or `--name=value`) from `arguments` and return the value."""
    for position, argument in enumerate(arguments):
        if argument.startswith(f"--{name}="):
            return arguments.pop(position).split("=", 1)[1]
        if argument == f"--{name}":
            if position + 1 == len(arguments):
                raise UserError(f"--{name} needs a value")
            arguments.pop(position)
            return arguments.pop(position)
    return None


def use_all_cores() -> None:
    """Make every core this process may use a JAX device, over which chains are sharded; no effect on accelerators."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={usable_cores()}".strip()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "slt_jax" / "compiled"))
    os.environ.setdefault("MPLBACKEND", "agg")


def run_experiment(name: str, arguments: list[str]) -> int:
    """Run experiment `name` with the configuration that `arguments` describe."""
    experiment = find(name)
    config_name = take_option(arguments, "config")
    folder_option = take_option(arguments, "folder")
    tolerate = "--tolerate-divergence" in arguments
    arguments = [argument for argument in arguments if argument != "--tolerate-divergence"]
    configs = experiment.config_table()
    if config_name not in configs:
        given = "--config is missing" if config_name is None else f"{name} has no config '{config_name}'"
        raise UserError(f"{given}; there are: {', '.join(configs)}")
    import tyro

    default = configs[config_name]()
    config = tyro.cli(type(default), default=default, args=arguments, prog=f"python -m experiments {name}")
    from experiments.checks import check_config
    from experiments.run_folder import RunFolder

    check_config(config)
    module = experiment.load()
    if hasattr(module, "check"):
        module.check(config)
    folder = RunFolder.open(experiment.name, config_name, config, Path(folder_option) if folder_option else None)
    with folder.running():
        diverged = module.run(config, folder)
        module.report(folder)
    return finish(folder.path, [] if tolerate else diverged)


def run_report(arguments: list[str]) -> int:
    """Rebuild the report of a run folder."""
    if len(arguments) != 1:
        raise UserError("report takes one run folder: python -m experiments report FOLDER")
    from experiments.run_folder import RunFolder

    folder = RunFolder.existing(Path(arguments[0]))
    find(folder.experiment).load().report(folder)
    return finish(folder.path, [])


def finish(path: Path, diverged: list[str]) -> int:
    """Say what diverged on stderr, and where the report is as the last line on stdout."""
    for sentence in diverged:
        print(f"diverged: {sentence}", file=sys.stderr)
    if diverged:
        print("exit code 3; run with --tolerate-divergence to accept this", file=sys.stderr)
    print(f"report: {path / 'report.html'}", file=sys.stderr)
    print(path)
    return EXIT_DIVERGED if diverged else 0


def main(arguments: list[str]) -> int:
    """Entry point; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "list"):
        print(usage())
        return 0
    use_all_cores()
    try:
        if arguments[0] == "report":
            return run_report(arguments[1:])
        return run_experiment(arguments[0], arguments[1:])
    except (UserError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except FloatingPointError as error:
        print(f"diverged: {error}", file=sys.stderr)
        return EXIT_DIVERGED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
