"""The command line: it parses and calls; everything else is imported when it is needed."""

import os
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from slt_lab.catalogue import Catalogue, config_of
from slt_lab.cores import usable_cores
from slt_lab.errors import Exit, UserError
from slt_lab.options import Options, take_options

__all__ = ["main", "restore_config"]


def usage(catalogue: Catalogue) -> str:
    """What there is: every experiment with its configs."""
    command = catalogue.command
    name = "NAME" if catalogue.listed else "FILE"
    lines = [
        f"usage: {command} {name} --config CONFIG [--folder PATH] [--worker] [--tolerate-divergence] [--FIELD VALUE ...]",
        f"       {command} {name} --config CONFIG --help      every field, its type and default",
        f"       {command} report FOLDER                    figures and report again, from storage alone",
        f"       {command} sweep {name} --config CONFIG --seeds 0..4 --set FIELD V V --launcher local|slurm|print",
        f"       {command} report SWEEP                     one table and one figure of all its runs",
        f"       {command} list [RUNS]                      every run: state, progress, remaining time, host",
        "",
    ]
    for listed in catalogue.listed.values():
        lines.append(f"{listed.name:22}{listed.summary}")
        lines.append(f"{'':22}{listed.paper}; configs: {', '.join(listed.config_names())}")
    return "\n".join(lines)


def use_all_cores() -> None:
    """Make every core this process may use a JAX device, over which chains are sharded; no effect on accelerators."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={usable_cores()}".strip()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "slt_jax" / "compiled"))
    os.environ.setdefault("MPLBACKEND", "agg")


def run_experiment(catalogue: Catalogue, name: str, arguments: list[str]) -> int:
    """Run experiment `name` with the configuration that `arguments` describe, or continue it."""
    options = take_options(arguments)
    experiment = catalogue.find(name)
    config = _parse(catalogue, name, config_of(experiment, options.config)(), options)
    from slt_lab.folder import RunFolder
    from slt_lab.precision import set_precision
    from slt_lab.settings import check_config

    set_precision()
    check_config(config)
    experiment.check(config)
    known = name if name in catalogue.listed else str(Path(name).resolve())
    assert options.config is not None
    folder = RunFolder.open(known, options.config, config, options.folder)
    with folder.at_work(worker=options.worker):
        diverged = experiment.compute(config, folder)
    return _finish(folder.path, [] if options.tolerate_divergence else diverged)


def _parse(catalogue: Catalogue, name: str, default: Any, options: Options) -> Any:
    import tyro

    return tyro.cli(type(default), default=default, args=list(options.rest), prog=f"{catalogue.command} {name}")


def run_report(catalogue: Catalogue, arguments: list[str]) -> int:
    """Rebuild the report of a run folder."""
    if len(arguments) != 1 or not arguments[0].strip():
        raise UserError(f"report takes one run folder: {catalogue.command} report FOLDER")
    from slt_lab.folder import RunFolder

    if (Path(arguments[0]) / "sweep.json").exists():
        from slt_lab.sweep_page import report_sweep

        print(report_sweep(Path(arguments[0])))
        return Exit.FINISHED
    folder = RunFolder.existing(Path(arguments[0]))
    experiment = catalogue.find(folder.experiment)
    with folder.assembling():
        experiment.report(restore_config(experiment, folder), folder)
    return _finish(folder.path, [])


def run_sweep(catalogue: Catalogue, arguments: list[str]) -> int:
    """Plan a sweep and start its runs."""
    import tyro

    from slt_lab.launch import SweepOptions, launch
    from slt_lab.sweep import parse_seeds, plan, write_sweep

    options = tyro.cli(SweepOptions, args=arguments, prog=f"{catalogue.command} sweep")
    settings = {}
    for given in options.set:
        if len(given) < 2:
            raise UserError("--set takes a field and at least one value: --set sampling.localization 1 10")
        if given[0] in settings:
            raise UserError(f"--set {given[0]} is given twice; name all its values at once")
        settings[given[0]] = given[1:]
    sweep = plan(catalogue, options.experiment, options.config, parse_seeds(options.seeds), settings, options.name)
    if options.launcher != "print":
        write_sweep(sweep)
    code = launch(sweep, options, print)
    print(f"all of it: {catalogue.command} report {sweep.folder}", file=sys.stderr)
    return code


def run_list(arguments: list[str]) -> int:
    """Print the runs of a folder."""
    from slt_lab.overview import find_runs, state_of, table

    if len(arguments) > 1:
        raise UserError("list takes one folder of runs, or none for runs/")
    root = Path(arguments[0] if arguments else "runs")
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; give the folder that holds the run folders")
    runs = find_runs(root)
    print(table([state_of(run) for run in runs]) if runs else f"no runs in {root}")
    return Exit.FINISHED


def restore_config(experiment: Any, folder: Any) -> Any:
    """The configuration of a run folder, as an object.

    Raises:
        UserError: if the experiment has no such config any more.
    """
    return _restored(config_of(experiment, folder.config_name)(), folder.config, folder.path / "config.json")


def _restored(default: Any, stored: Any, path: Path) -> Any:
    if is_dataclass(default) and not isinstance(default, type):
        if not isinstance(stored, dict):
            raise UserError(f"{path} does not fit this version of the experiment; run it again with another --folder")
        names = {one.name for one in fields(default)}
        given = {
            name: _restored(getattr(default, name), value, path) for name, value in stored.items() if name in names
        }
        return replace(default, **given)
    if not isinstance(stored, list):
        return stored
    like = default if isinstance(default, (tuple, list)) and default else (None,)
    return tuple(_restored(like[min(place, len(like) - 1)], value, path) for place, value in enumerate(stored))


def _finish(path: Path, diverged: list[str]) -> int:
    """Say what diverged on stderr, and where the report is as the last line on stdout."""
    for sentence in diverged:
        print(f"diverged: {sentence}", file=sys.stderr)
    if diverged:
        print("exit code 3; run with --tolerate-divergence to accept this", file=sys.stderr)
    print(f"report: {path / 'report.html'}", file=sys.stderr)
    print(path)
    return Exit.DIVERGED if diverged else Exit.FINISHED


def main(arguments: list[str], catalogue: Catalogue) -> int:
    """Entry point; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(catalogue))
        return Exit.FINISHED
    from slt_lab.signals import listening

    try:
        with listening():
            return _dispatch(arguments, catalogue)
    except (UserError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return Exit.REFUSED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return Exit.REFUSED
    except FloatingPointError as error:
        print(f"diverged: {error}", file=sys.stderr)
        return Exit.DIVERGED
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return Exit.INTERRUPTED
    except Exception as error:
        if type(error).__name__ != "Stopped":  # by its name: the library is not imported for a list
            raise
        print(f"{error}; the same command continues", file=sys.stderr)
        return Exit.STOPPED


def _dispatch(arguments: list[str], catalogue: Catalogue) -> int:
    use_all_cores()
    command, rest = arguments[0], arguments[1:]
    if command == "report":
        return run_report(catalogue, rest)
    if command == "sweep":
        return run_sweep(catalogue, rest)
    if command == "list":
        return run_list(rest)
    return run_experiment(catalogue, command, rest)
