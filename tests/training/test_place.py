import pytest

from sf2cli.errors import Sf2Error
from sf2cli.training.place import Place, read_place


def test_no_launcher():
    assert read_place({"PATH": "/bin"}) is None


def test_torchrun_and_deepspeed_variables():
    env = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
    assert read_place(env) == Place(3, 4, 1)


def test_slurm_variables_count_only_in_a_step():
    env = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}
    assert read_place(env) is None
    assert read_place({**env, "SLURM_STEP_ID": "0"}) == Place(5, 8, 1)


@pytest.mark.parametrize(
    ("env", "names"),
    [
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK=x"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2"),
    ],
)
def test_nonsense_is_named(env, names):
    with pytest.raises(Sf2Error, match=names):
        read_place(env)
