"""What looks at the emulated kernels: it sees every planted fault and no other."""

import ctypes

import emulated
import pytest

SOUND = ("exchange among threads", "exchange in a warp", "read what all read", "do nothing")
UNORDERED = "what lane .* (reads|writes), and nothing orders them"
UNWRITTEN = "reads 8 bytes that no lane has written"
MASKED = "lane 0 of block 0 leaves lanes out by a mask"
FAULTY = {
    "read without barrier": f"{UNORDERED}|{UNWRITTEN}",  # by who comes first
    "write without barrier": UNORDERED,
    "warp barrier among warps": f"{UNORDERED}|{UNWRITTEN}",
    "shuffle as barrier": UNORDERED,
    "one word for two blocks": "lane 0 of block 1 writes what lane 0 of block 0 writes",
    "write what the first block reads": "lane 0 of block 1 writes what lane .* of block 0 reads",
    "past the end": "lane 1 of block 0 reads 8 bytes out of bounds",
    "past the shared memory": "lane 0 of block 0 writes 8 bytes out of bounds",
    "load between vectors": "reads 16 bytes at no multiple of that",
    "store between vectors": "writes 16 bytes at no multiple of that",
    "copy between vectors": "writes 16 bytes at no multiple of that",
    "shared memory of nobody": f"lane 0 of block 0 {UNWRITTEN}",
    "shared memory of an earlier block": f"lane 0 of block 1 {UNWRITTEN}",
    "array of an earlier block": f"lane 0 of block 1 {UNWRITTEN}",
    "different instructions": "lane 1 of block 0 waits in another instruction than the others",
    "barrier of some": "lane 63 of block 0 waits for others that never come",
    "shuffle by half": MASKED,
    "vote of half": MASKED,
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


USUAL = 48 << 10  # bytes of shared memory that a kernel may have without more ado
LIMIT = 64 << 10  # of device 0


def launch(
    planted, *, grid=1, block=32, shared=0, reserved=USUAL, reserved_for="do nothing", device=0
):
    """How a launch on device 0 ends, in the runtime's words, in a stream of a device."""
    planted.emulate_launch.restype = ctypes.c_char_p
    return planted.emulate_launch(
        grid, block, shared, reserved, NUMBERS[reserved_for], -1 if device is None else device
    ).decode()


LAUNCHES = [
    ({}, "no error"),
    ({"block": 1024}, "no error"),
    ({"grid": 0}, "invalid configuration argument"),
    ({"block": 0}, "invalid configuration argument"),
    ({"block": 1056}, "invalid configuration argument"),
    ({"device": 1}, "invalid resource handle"),
    ({"device": None}, "invalid resource handle"),  # the default stream
    ({"shared": USUAL}, "no error"),
    ({"shared": USUAL + 1}, "invalid argument"),
    ({"shared": LIMIT, "reserved": LIMIT}, "no error"),
    (
        {"shared": LIMIT, "reserved": LIMIT, "reserved_for": "read what all read"},
        "invalid argument",
    ),
    ({"reserved": LIMIT + 1}, "invalid argument"),
]


@pytest.mark.parametrize("asked, ends", LAUNCHES)
def test_a_launch_ends_as_on_a_gpu(planted, asked, ends):
    assert launch(planted, **asked) == ends
