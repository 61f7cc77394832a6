"""Python blocks of the pages run; those that need another machine or library are run elsewhere.

Blocks that show a session (``>>>``) are doctests of tests/test_docs.py. The others are run here
with what the page has around them, or it is said which test runs them.
"""

import contextlib
import re
import sys
import types
from pathlib import Path

import pytest
import torch
from torch.nn.functional import mse_loss

import pyfront

DOCS = Path(__file__).parents[1] / "docs"
ELSEWHERE = {  # page, or page and a word of the block: the test
    "frameworks/lightning.md: ModelParallelStrategy": "examples/test_in_two_processes.py",
    "gpu.md": "cuda/test_device.py",  # on a GPU
    "loop.md": "test_docs.py",
    "moving.md": "test_moving.py",
    "scale.md: dask": "sweeps/test_executors.py",  # which has a stand-in for such executors
    "scale.md: submitit": "sweeps/test_executors.py",
    "scale.md: ProcessPoolExecutor": "sweeps/test_executors.py",
    "scale.md: SLURM_ARRAY": "sweeps/test_executors.py",
    "scale.md: init_device_mesh": "sweeps/test_ranks.py",
    "rewards.md: GRPOTrainer": "control/test_trl.py",
}


class Model(torch.nn.Module):
    """Two outputs of four inputs."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(x).T


def compute_losses(model, batch):
    x, targets = batch
    return [mse_loss(y, target) for y, target in zip(model(x), targets, strict=True)]


@pytest.fixture
def around():
    """What the pages take for given."""
    model = Model()
    base = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = [(torch.randn(16, 4), torch.randn(2, 16)) for _ in range(8)]
    x, y = loader[0]
    return {
        **{"__name__": "__main__", "torch": torch, "pyfront": pyfront, "model": model},
        **{"base": base, "loader": loader, "batch": loader[0], "x": x, "y": y},
        **{"opt": pyfront.EPO(base, [0.7, 0.3]), "losses": compute_losses(model, loader[0])},
        **{"compute_losses": compute_losses, "train": train},
        "losses_of": lambda outputs, y: [mse_loss(*pair) for pair in zip(outputs, y, strict=True)],
        **{"preference": [0.7, 0.3], "closure": lambda: compute_losses(model, loader[0])},
        "preferences": [[0.2, 0.8], [0.8, 0.2]],
    }


def train(preference):
    return pyfront.Solution(method="EPO", preference=preference, train_losses=[1.0, 2.0])


def plain_blocks():
    """Page, number and text of every block that is no session."""
    for page in sorted(DOCS.rglob("*.md")):
        if "site" not in page.parts:
            found = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
            for number, block in enumerate(found):
                if not block.startswith(">>>"):
                    yield str(page.relative_to(DOCS)), number, block


def runs_elsewhere(page, block):
    """The test that runs a block, or None if it is run here."""
    for key, test in ELSEWHERE.items():
        name, _, word = key.partition(": ")
        if name == page and word in block:
            return test
    return None


HERE = [entry for entry in plain_blocks() if runs_elsewhere(entry[0], entry[2]) is None]


def test_tests_of_the_other_blocks_exist():
    away = not (DOCS.parent / "pyproject.toml").exists()  # where tests that need the source are not
    for test in ELSEWHERE.values():
        assert away or (Path(__file__).parent / test).exists()
    assert len(HERE) >= 9


@pytest.mark.parametrize(("page", "number", "block"), HERE, ids=lambda x: str(x)[:20].strip())
def test_a_block_runs(page, number, block, around, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare = PREPARE.get(page, lambda names: contextlib.nullcontext())
    block = block.replace("/shared/runs", "runs")
    if "def train(preference):" in block:
        block = block.replace("    ...\n", "    losses = [1.0, 2.0]\n").replace('"runs"', "None")
        block = block.replace("folder=None", "folder=None, workers=0")
    with prepare(around):
        exec(compile(block, page, "exec"), around)


@contextlib.contextmanager
def in_a_group(names):
    """One process that is a group of its own."""
    from torch.nn.parallel import DistributedDataParallel

    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    names["DistributedDataParallel"] = DistributedDataParallel
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def without_compiling(names):
    with torch.compiler.set_stance("force_eager"):
        yield
        names["step"](names["batch"])


@contextlib.contextmanager
def in_fabric(names):
    fabric = pytest.importorskip("lightning").Fabric(accelerator="cpu", devices=1)
    model, opt = fabric.setup(names["model"], names["opt"])
    names.update(fabric=fabric, model=model, opt=opt)
    yield


@contextlib.contextmanager
def with_rewards(names):
    controller = pyfront.control.PreferenceController(
        {"helpful": 2.0, "short": 1.0}, maximize=True, offset={"helpful": 1.0, "short": 1.0}
    )
    rewards = {name: torch.rand(8) for name in ("helpful", "short")}
    names.update(controller=controller, rewards=rewards)
    with stand_in_for_verl() as registry:
        yield
    if "total" in names:
        assert names["total"].shape == (8,)
        return
    given = {"gdpo_reward_keys": ["short", "helpful"], "gdpo_reward_weights": None}
    batch = {name: rows.numpy().astype(object) for name, rows in rewards.items()}
    config, others = registry["gdpo"](config=given, non_tensor_batch=batch, index="uid")
    weights = controller_of_the_page().weights({k: v.mean().item() for k, v in rewards.items()})
    assert config["gdpo_reward_weights"] == [
        pytest.approx(weights["short"]), pytest.approx(weights["helpful"])
    ]  # fmt: skip
    assert given["gdpo_reward_weights"] is None
    assert others == {"non_tensor_batch": batch, "index": "uid"}


def controller_of_the_page():
    return pyfront.control.PreferenceController(
        {"helpful": 2.0, "short": 1.0}, maximize=True, offset={"helpful": 1.0, "short": 1.0},
        proportional=0.5, averaging=0.5,
    )  # fmt: skip


@contextlib.contextmanager
def stand_in_for_verl():
    """A module with the names of verl that the page uses, whose estimator returns its arguments."""
    registry = {"gdpo": lambda *, config, **others: (config, others)}
    module = types.ModuleType("verl.trainer.ppo.core_algos")
    module.ADV_ESTIMATOR_REGISTRY, module.get_adv_estimator_fn = registry, registry.__getitem__
    parents = {name: types.ModuleType(name) for name in ("verl", "verl.trainer")}
    parents["verl.trainer.ppo"] = types.ModuleType("verl.trainer.ppo")
    parents["verl.trainer.ppo"].core_algos = module
    with pytest.MonkeyPatch.context() as patch:
        for name, found in (*parents.items(), (module.__name__, module)):
            patch.setitem(sys.modules, name, found)
        yield registry


PREPARE = {
    "distributed.md": in_a_group,
    "frameworks/compile.md": without_compiling,
    "frameworks/lightning.md": in_fabric,
    "rewards.md": with_rewards,
}
