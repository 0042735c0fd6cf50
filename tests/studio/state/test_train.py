from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import diptych
from diptych.errors import InputError
from diptych.ptycho.neural.options import TrainingOptions
from diptych.runtime.jobs import Job
from diptych.studio.context import Studio
from diptych.studio.options import StudioOptions
from diptych.studio.state.fields import fitting, parsed
from diptych.studio.state.history import read_history
from diptych.studio.state.listing import models_of, numbered_run
from diptych.studio.state.train.fields import trainer_fields, training_fields
from diptych.studio.state.train.page import TrainPage


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    scan = diptych.simulate(object="blocks", size=16, patterns=49, step=2.0, dose=1e5, seed=0)
    diptych.save(scan, tmp_path / "scan.npz")
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    return Studio(StudioOptions(data=(tmp_path,)))


def test_only_scans_are_listed(studio: Studio) -> None:
    assert list(TrainPage(studio).scans().values()) == ["scan.npz"]
    studio.close()


def test_a_wrong_option_is_refused_before_anything_runs(studio: Studio) -> None:
    page = TrainPage(studio)
    with pytest.raises(InputError, match="no scan"):
        page.start()
    page.choose(["scan.npz"])
    page.values["epochs"] = 0
    with pytest.raises(InputError, match="epochs"):
        page.start()
    assert page.job is None
    with pytest.raises(InputError):
        page.choose(["../scan.npz"])
    studio.close()


@pytest.mark.integration
def test_a_network_is_trained_kept_and_listed(studio: Studio, tmp_path: Path) -> None:
    page = TrainPage(studio)
    page.choose(["scan.npz"])
    page.values.update(epochs=2, warmup=0, n_groups=8)
    page.trainer["device"] = "cpu"
    job = submit_in_thread(page)
    assert job.wait(120)
    assert job.state == "done", job.error
    assert page.history()["epoch"] == [1.0, 2.0]
    assert np.isfinite(page.history()["loss"]).all()
    picture = page.picture()
    assert picture is not None
    assert picture.name == "epoch-0002.png"
    with pytest.raises(InputError, match="name"):
        page.keep("../up")
    kept = page.keep("mine")
    assert kept == tmp_path / "models" / "mine.safetensors"
    assert kept in models_of(studio)
    assert diptych.load_model(kept).about()["size"] == 16
    with pytest.raises(InputError, match="exists"):
        page.keep("mine")
    # As after a restart of the server: another page, which knows of no job.
    studio.close()
    again = TrainPage(Studio(StudioOptions(data=(tmp_path,))))
    assert again.model() is None
    again.show(str(job.folder))
    assert again.job is None
    np.testing.assert_equal(again.history(), page.history())
    assert (again.model(), again.picture()) == (page.model(), picture)
    assert not again.resumable
    for wrong in (tmp_path, "..", "nothing"):
        with pytest.raises(InputError):
            again.show(wrong)


def submit_in_thread(page: TrainPage) -> Job:
    """Start the training in a thread: a process of its own would import torch again."""
    submit = page.studio.jobs.submit
    page.studio.jobs.submit = lambda work, arguments, **more: submit(  # type: ignore[method-assign]
        work, arguments, **{**more, "process": False}
    )
    return page.start()


def test_nothing_to_keep_without_a_network(studio: Studio) -> None:
    page = TrainPage(studio)
    assert (page.model(), page.picture(), page.history(), page.resumable) == (None, None, {}, False)
    with pytest.raises(InputError, match="no trained network"):
        page.keep("a")
    with pytest.raises(InputError, match="go on"):
        page.resume()
    studio.close()


def test_every_option_of_training_has_a_field() -> None:
    first, rest = training_fields()
    names = [field.name for field in (*first, *rest)]
    assert len(names) == len(set(names))
    assert {"network", "epochs", "withheld", "seed"} <= set(names)
    assert {"device", "precision"} <= {field.name for field in trainer_fields()}
    for network in ("cnn", "hybrid"):
        shown = set(fitting(TrainingOptions, {"network": network}))
        assert {field.name for field in rest if not field.owners or f"network {network}" in field.owners} <= shown
        assert not any(
            field.name in shown for field in rest if field.owners and f"network {network}" not in field.owners
        )


def test_what_is_typed_becomes_a_value() -> None:
    fields = {field.name: field for group in training_fields() for field in group}
    assert parsed(fields["epochs"], " 12 ") == 12
    assert parsed(fields["learning_rate"], "1e-4") == 1e-4
    assert parsed(fields["patience"], "") is None
    assert parsed(fields["loss"], "mae") == "mae"
    with pytest.raises(InputError, match="whole number"):
        parsed(fields["epochs"], "many")


def test_history_of_an_unfinished_line_is_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,loss,validation_loss\n1,0.5,\n2,0.4,0.")
    found = read_history(tmp_path / "metrics.csv")
    assert found["epoch"] == [1.0, 2.0]
    assert np.isnan(found["validation_loss"][0])
    assert read_history(tmp_path / "none.csv") == {}


def test_runs_are_numbered(tmp_path: Path) -> None:
    assert numbered_run(tmp_path, "a").name == "a-1"
    (tmp_path / "runs" / "a-1").mkdir(parents=True)
    assert numbered_run(tmp_path, "a").name == "a-2"
    shutil.rmtree(tmp_path / "runs")
