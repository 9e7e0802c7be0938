"""--device: what is said where there is no GPU, or too small a one."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf
from command_line import end, invoke, start
from projects import PARAMETERS, project_with_derivatives, structures_with_forces, write_files

from tio2nn.files.tables import read_json
from tio2nn.training import company, device_memory, devices, fit
from tio2nn.workflow import fallback

SHORT = PARAMETERS.with_overrides(training={"epochs": 1, "forces": True, "members": 1})


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _kind: [])


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is meant for the GPU is computed on the CPU."""
    monkeypatch.setattr(devices, "use_gpu", lambda: None)
    monkeypatch.setattr(fit, "on", lambda _: devices.on("cpu"))


@pytest.mark.usefixtures("no_gpu")
def test_a_run_without_a_gpu_ends_in_one_line_before_any_work(tmp_path: Path) -> None:
    files = write_files(tmp_path, structures_with_forces())
    out, err = invoke("run", *files, "-C", tmp_path / "p", "--device", "gpu", code=2)
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("device: expected a GPU that TensorFlow can use, got none; nvidia-smi lists GPUs")
    assert not (tmp_path / "p").exists()


@pytest.mark.slow
def test_nor_are_there_notes_of_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    files = write_files(tmp_path, structures_with_forces())
    code, out, err = end(start(tmp_path, "run", *files, "-C", "p", "--device", "gpu"))
    assert (code, out, err.count("\n")) == (2, "", 1), err


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("options", [(), ("--member", 1)])
def test_a_training_without_a_gpu_ends_in_one_line(tmp_path: Path, options: tuple[object, ...]) -> None:
    project = project_with_derivatives(tmp_path / "p", SHORT)
    if options:
        invoke("train", "-C", project.root, "--prepare")
    _, err = invoke("train", "-C", project.root, "--device", "gpu", *options, code=2)
    before, said = err.splitlines()
    assert before == "starting TensorFlow ..."
    assert said.startswith("device: expected a GPU that TensorFlow can use, got none")
    assert not list(project.model_directory.glob("*checkpoint*"))


@pytest.mark.parametrize("command", ["train", "run"])
def test_a_device_that_does_not_exist_is_refused(tmp_path: Path, command: str) -> None:
    sources = write_files(tmp_path, structures_with_forces()) if command == "run" else []
    _, err = invoke(command, *sources, "-C", tmp_path, "--device", "tpu", code=2)
    assert err == "device: expected cpu or gpu, got tpu\n"


@pytest.mark.parametrize("command", ["train", "run"])
def test_a_cluster_has_no_gpu(tmp_path: Path, command: str) -> None:
    sources = write_files(tmp_path, structures_with_forces()) if command == "run" else []
    words = (*sources, "-C", tmp_path, "--device", "gpu", "--scheduler", "127.0.0.1:1")
    _, err = invoke(command, *words, code=2)
    assert err.startswith("--device cannot be combined with --scheduler")
    assert err.count("\n") == 1


def test_a_gpu_that_does_not_work_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise tf.errors.InternalError(None, None, "no kernel image\nis available")

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _kind: ["a GPU"])
    monkeypatch.setattr(tf.config, "set_visible_devices", broken)
    project = project_with_derivatives(tmp_path / "p", SHORT)
    _, err = invoke("train", "-C", project.root, "--device", "gpu", code=2)
    assert err.splitlines()[-1] == "device: expected a GPU that works, got no kernel image is available"


@pytest.mark.usefixtures("eager", "pretended_gpu")
def test_the_device_is_recorded(tmp_path: Path) -> None:
    project = project_with_derivatives(tmp_path / "p", SHORT)
    invoke("train", "-C", project.root, "--device", "gpu")
    assert read_json(project.training_metrics_file)["device"] == "gpu"
    invoke("train", "-C", project.root)
    assert read_json(project.training_metrics_file)["device"] == "cpu"


@pytest.mark.usefixtures("pretended_gpu")
def test_what_does_not_fit_on_the_gpu_is_trained_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> tf.Tensor:
        raise tf.errors.ResourceExhaustedError(None, None, "full")

    monkeypatch.setattr(device_memory, "zeros", full)
    project = project_with_derivatives(tmp_path / "p", SHORT)
    _, err = invoke("train", "-C", project.root, "--device", "gpu")
    (line,) = [line for line in err.splitlines() if "do not fit" in line]
    assert line.startswith("warning: the derivatives of ")
    assert line.endswith("do not fit on the GPU; training on the CPU")
    assert read_json(project.training_metrics_file)["device"] == "cpu"


@pytest.mark.usefixtures("pretended_gpu")
def test_a_gpu_that_xla_cannot_compile_for_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise tf.errors.InternalError(None, None, "no ptxas\nis there")

    with monkeypatch.context() as context:
        context.setattr(tf, "function", broken)
        reason = devices.without_xla.__wrapped__()
    for module in (company, fallback):
        monkeypatch.setattr(module, "without_xla", lambda: reason)
    project = project_with_derivatives(tmp_path / "p", SHORT)
    _, err = invoke("train", "-C", project.root, "--device", "gpu")
    assert (
        "warning: XLA cannot compile for this GPU (no ptxas is there); each operation starts by itself there, "
        "several times slower\n"
    ) in err
    assert read_json(project.training_metrics_file)["device"] == "gpu"
