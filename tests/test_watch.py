"""What looks at the memory of the emulated kernels: it sees every planted fault and no other."""

import emulated
import pytest

SOUND = ("exchange among threads", "exchange in a warp", "read what all read")
UNORDERED = "what lane .* (reads|writes), and nothing orders them"
UNWRITTEN = "reads 8 bytes that no lane has written"
FAULTY = {
    "read without barrier": f"{UNORDERED}|{UNWRITTEN}",  # by who comes first
    "write without barrier": UNORDERED,
    "warp barrier among warps": f"{UNORDERED}|{UNWRITTEN}",
    "shuffle as barrier": UNORDERED,
    "one word for two blocks": "lane 0 of block 1 writes what lane 0 of block 0 writes",
    "write what the first block reads": "lane 0 of block 1 writes what lane .* of block 0 reads",
    "past the end": "lane 1 of block 0 reads 8 bytes out of bounds",
    "past the shared memory": "lane 0 of block 0 writes 8 bytes out of bounds",
    "vector between vectors": "reads 16 bytes at no multiple of that",
    "shared memory of nobody": UNWRITTEN,
}
NUMBERS = {name: number for number, name in enumerate((*SOUND, *FAULTY))}


@pytest.fixture(scope="module")
def planted():
    if why_not := emulated.obstacle():
        pytest.skip(why_not)
    return emulated.compiled("planted_faults.cpp")


@pytest.mark.parametrize("name", SOUND)
def test_sound_kernels_have_no_fault(planted, name):
    planted.emulate_kernel(NUMBERS[name])


@pytest.mark.parametrize("name", FAULTY)
def test_a_planted_fault_is_found(planted, name):
    with pytest.raises(emulated.FaultError, match=FAULTY[name]):
        planted.emulate_kernel(NUMBERS[name])
