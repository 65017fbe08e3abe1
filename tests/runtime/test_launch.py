"""Launch: several processes are known by what their launcher tells them."""

import pytest

from galfig.runtime.launch import find_place, is_alone_unasked

LAUNCHED = {
    "RANK": "2",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


def test_a_launched_process_knows_its_place():
    place = find_place(LAUNCHED)
    assert (place.rank, place.n_processes, place.is_main) == (2, 4, False)
    assert find_place({**LAUNCHED, "RANK": "0"}).is_main


@pytest.mark.parametrize(
    "environment",
    [
        {},
        # What a batch system may set for any job.
        {"WORLD_SIZE": "4"},
        {"RANK": "1", "WORLD_SIZE": "4"},
        *({name: LAUNCHED[name] for name in LAUNCHED if name != left} for left in LAUNCHED),
        {**LAUNCHED, "RANK": "-1"},
        {**LAUNCHED, "RANK": "4"},
        {**LAUNCHED, "WORLD_SIZE": "many"},
    ],
)
def test_any_other_process_is_alone(environment):
    assert find_place(environment) == (0, 1)


def test_one_process_where_several_were_asked_for_is_noticed():
    """As `accelerate launch --cpu --num_processes 2` starts it, without MPI."""
    started = {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    assert is_alone_unasked(started)
    assert not is_alone_unasked({"ACCELERATE_USE_CPU": "True"})
    assert not is_alone_unasked({**started, **LAUNCHED})
    assert not is_alone_unasked({})
