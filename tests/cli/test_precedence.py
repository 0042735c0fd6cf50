"""Every option reaches its consumer, and flag > file > default, for every field of every model of every verb."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from pydantic.fields import FieldInfo

import diptych.ptycho.describe
import diptych.ptycho.evaluate
import diptych.ptycho.evaluate.limit
import diptych.ptycho.io
import diptych.ptycho.reconstruct
import diptych.ptycho.simulate
import diptych.ptycho.train
import diptych.runtime.provenance
from diptych.cli.generate import flag, verb
from diptych.cli.output import Report
from diptych.ptycho.evaluate import compare
from diptych.runtime.options import Options
from diptych.runtime.registry import SelectingOptions

EXAMPLES: dict[str, tuple[Any, Any]] = {
    "layout": ("one.yaml", "two.yaml"),
    "amplitude": ([0.25, 0.5], [0.5, 0.75]),
    "phase": ([-0.25, 0.5], [-1.5, -0.5]),
    "field": ([20.0, 30.0], [25.0, 35.0]),
    "mode_powers": ([1.0, 0.25], [2.0, 1.0]),
    "start": ("a.h5", "b.h5"),
    "probe": ("a.npz", "b.npz"),
    "positions": ("a.csv", "b.csv"),
    "entry": ("entry_1", "entry_2"),
    "probe_key": ("first", "second"),
    "patterns_at": ("a/data", "b/data"),
    "positions_at": ("a/yx", "b/y,b/x"),
    "probe_at": ("a/probe", "b/probe"),
    "mask_at": ("a/mask", "b/mask"),
    "drop": ("3", "5,7-9"),
    "prepare": ("{crop: 24}", "{bin: 2}"),
    "device": ("cpu", "cuda:7"),
    "network": ("fno", "hybrid"),
    "engine": ("ml", "rpie"),
    "width": (8, 16),
    "passes": (1, 3),
    "gridsize": (1, 3),
    "refiners": (1, 3),
    "levels": (1, 3),
    "expansion": (1, 3),
    "reference": ("engine", "other"),
}
"""Two values of the fields whose type does not suggest any."""

NEEDS: dict[str, dict[str, Any]] = {
    "radius": {"probe": "disk"},
    "mode_powers": {"modes": 2},
    "slices": {"slice_distance_m": 1e-5},
    "slice_distance_m": {"slices": 2},
    "pool": {"oversample": True},
    "positions_at": {"patterns_at": "data"},
    "probe_at": {"patterns_at": "data"},
    "mask_at": {"patterns_at": "data"},
}
"""What else must be set for a field to mean anything."""


DEFAULTS: dict[tuple[str, str, tuple[str, ...]], Any] = {}
"""Options that reach a verb without a flag or a file, by verb, model and what selects an extension: called once."""


class Reached(BaseException):
    """Raised by the consumers, with the options they were given."""

    def __init__(self, options: Any) -> None:
        self.options = options


def consumer(pick: Callable[[tuple[Any, ...], dict[str, Any]], Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        raise Reached(pick(args, kwargs))

    return call


@pytest.fixture
def consumers(monkeypatch: pytest.MonkeyPatch, scan: Any) -> Callable[[str, str], None]:
    """Put a trap in the place of the function that takes the options of ``model`` under ``verb``."""
    places = {
        ("info", "LoadOptions"): (diptych.ptycho.describe, "describe_file", 1),
        ("check", "LoadOptions"): (diptych.ptycho.io, "load_scan", 1),
        ("reconstruct", "LoadOptions"): (diptych.ptycho.io, "load_scan", 1),
        ("evaluate", "LoadOptions"): (diptych.ptycho.io, "load", 1),
        ("evaluate", "EvaluationOptions"): (diptych.ptycho.evaluate, "evaluate", 2),
        ("bound", "LoadOptions"): (diptych.ptycho.io, "load_scan", 1),
        ("bound", "BoundOptions"): (diptych.ptycho.evaluate.limit, "bound", 2),
        ("simulate", "SimulationOptions"): (diptych.ptycho.simulate, "simulate", 0),
        ("reconstruct", "ReconstructionOptions"): (diptych.ptycho.reconstruct, "reconstruct", 2),
        ("reconstruct", "ExecutionOptions"): (diptych.ptycho.reconstruct, "reconstruct", "execution"),
        ("reconstruct", "InferenceOptions"): (diptych.ptycho.reconstruct, "reconstruct", "inference"),
        ("train", "LoadOptions"): (diptych.ptycho.train, "train", "load"),
        ("train", "TrainingOptions"): (diptych.ptycho.train, "train", 1),
        ("train", "TrainerOptions"): (diptych.ptycho.train, "train", "trainer"),
        ("compare", "CompareOptions"): (compare.Plan, "of", 3),
        ("compare", "LoadOptions"): (diptych.ptycho.io, "load_scan", 1),
        ("compare", "ExecutionOptions"): (compare.Plan, "run", 2),
        ("demo", "ExecutionOptions"): (diptych.ptycho.reconstruct, "reconstruct", "execution"),
    }

    def install(verb: str, model: str) -> None:
        # A named GPU need not be here, and what is loaded does not matter.
        monkeypatch.setattr(diptych.runtime.provenance, "device", lambda execution: {})
        monkeypatch.setattr(diptych.ptycho.io, "load_scan", lambda *a: scan)
        monkeypatch.setattr(diptych.ptycho.io, "load_result", lambda *a: None)
        monkeypatch.setattr(diptych.ptycho.io, "load", lambda *a: scan)
        monkeypatch.setattr("diptych.cli.demo.obtain", lambda offline: (scan, {"scan": "small"}))
        module, name, which = places[verb, model]
        pick = (lambda args, kwargs: kwargs[which]) if isinstance(which, str) else (lambda args, kwargs: args[which])
        monkeypatch.setattr(module, name, consumer(pick))

    return install


def owner(model: type[Options], name: str) -> tuple[dict[str, str], FieldInfo]:
    """What selects the first extension that has the option, and the option's field; nothing where the model has it."""
    if name in model.model_fields:
        return {}, model.model_fields[name]
    assert issubclass(model, SelectingOptions)
    for field, registry in model.registries.items():
        for extension, options in registry.option_models().items():
            if name in options.model_fields:
                return {field: extension}, options.model_fields[name]
    raise AssertionError(name)


def two_values(name: str, field: FieldInfo) -> tuple[Any, Any]:
    """Two different values that the field allows, neither of them its default unless it has but two."""
    kinds = set(leaves(field.annotation))
    choices = [
        value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind) if value != field.default
    ]
    if choices:
        return choices[0], choices[-1] if len(choices) > 1 else field.default
    if name in EXAMPLES:
        return EXAMPLES[name]
    if bool in kinds:
        return not field.default, field.default
    low, high = limits(field)
    pool = [
        value for value in (1, 2, 0.5, 0.25, 0.125, 0.0625, 16, 32) if low <= value <= high and value != field.default
    ]
    pool = [value for value in pool if isinstance(value, int) or float in kinds]
    assert len(pool) >= 2, f"give EXAMPLES two values for {name}"
    return pool[0], pool[1]


def leaves(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) in (Union, UnionType):
        for inner in get_args(annotation):
            yield from leaves(inner)
    elif hasattr(annotation, "__metadata__"):
        yield from leaves(get_args(annotation)[0])
    else:
        yield annotation


def limits(field: FieldInfo) -> tuple[float, float]:
    low, high = -1e9, 1e9
    for each in field.metadata:
        low = max(
            [
                low,
                *(
                    bound + 1e-9 * (key == "gt")
                    for key in ("ge", "gt")
                    if (bound := getattr(each, key, None)) is not None
                ),
            ]
        )
        high = min(
            [
                high,
                *(
                    bound - 1e-9 * (key == "lt")
                    for key in ("le", "lt")
                    if (bound := getattr(each, key, None)) is not None
                ),
            ]
        )
    return max(low, 1e-9), high


def as_flags(values: dict[str, Any]) -> list[str]:
    argv = []
    for name, value in values.items():
        exact = flag(name)[0]
        if isinstance(value, bool):
            argv.append(exact if value else exact.replace("--", "--no-", 1))
        else:
            argv += [exact, *map(str, value if isinstance(value, list) else [value])]
    return argv


FIXED = {
    "info": ["small.npz"],
    "check": ["small.npz"],
    "reconstruct": ["small.npz", "--run", "run"],
    "train": ["small.npz", "--run", "run"],
    "bound": ["small.npz"],
    "evaluate": ["small.h5", "--truth", "small.npz"],
    "compare": ["small.npz", "--method", "engine=auto", "--run", "run"],
    "simulate": ["--out", "new.npz"],
    "demo": [],
}


def test_flag_wins_over_file_and_file_over_default(
    verb: str,
    model: type[Options],
    name: str,
    cli: Callable[..., Any],
    consumers: Callable[[str, str], None],
    scan_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumers(verb, model.__name__)
    selecting, info = owner(model, name)
    first, second = two_values(name, info)
    needed = {**NEEDS.get(name, {}), **selecting}
    config = scan_file.with_name("options.yaml")

    def reached(*argv: str) -> Any:
        caught: list[Any] = []
        # ``run`` turns every exception into an exit code; the trap's is looked at on the way.
        monkeypatch.setattr("diptych.cli._failure", lambda error, code: caught.append(error) or Report({}))
        cli(
            verb,
            *FIXED[verb],
            *argv,
            *(["--overwrite"] if verb in ("reconstruct", "train", "compare", "simulate") else []),
        )
        assert isinstance(caught[0], Reached), caught
        return caught[0].options

    def value(options: Any) -> Any:
        found = getattr(options.own(next(iter(selecting))) if selecting else options, name)
        return list(found) if isinstance(found, tuple) else found

    flags = as_flags(selecting)
    if (key := (verb, model.__name__, tuple(flags))) not in DEFAULTS:
        DEFAULTS[key] = reached(*flags)
    default = list(info.default) if isinstance(info.default, tuple) else info.default
    assert value(DEFAULTS[key]) == default
    config.write_text(yaml.safe_dump({name: first, **needed}))
    assert value(reached("--config", str(config))) == first
    assert value(reached("--config", str(config), *as_flags({name: second}))) == second


def test_names_of_options_are_distinct_within_each_verb() -> None:
    class Clash(Options):
        run: int = 0

    def command(*, run: str = "", choices: Any) -> Report:
        raise NotImplementedError

    with pytest.raises(ValueError, match="command: option names used twice: run"):
        verb(Clash)(command)


def test_the_file_is_blamed_for_what_the_file_says(cli: Callable[..., Any], scan_file: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("epochs: 0\n")
    done = cli("reconstruct", scan_file, "--config", "bad.yaml", "--run", "run")
    assert (done.code, done.err.startswith("error: bad.yaml: epochs = 0: ")) == (2, True)
    done = cli("reconstruct", scan_file, "--epochs", "0", "--run", "run")
    assert (done.code, done.err.startswith("error: command line: epochs = 0: ")) == (2, True)
    (tmp_path / "bad.yaml").write_text("epoch: 3\n")
    done = cli("reconstruct", scan_file, "--config", "bad.yaml", "--run", "run")
    assert done.code == 2
    assert "bad.yaml: unknown option 'epoch'; expected some of alpha, " in done.err
    assert not (tmp_path / "run").exists()
