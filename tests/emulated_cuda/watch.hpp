#pragma once

// Every load and store of the emulated kernels, looked at. The kernels are compiled with
// -fsanitize=thread, which calls a function at each access; watch.cpp has these functions instead
// of the sanitizer's library, and knows what orders two accesses on a GPU: the end of a launch,
// __syncthreads within a thread block, and __syncwarp within a warp. Shuffles, votes and products
// of the matrix unit order nothing.

#include <cstddef>
#include <cstdint>
#include <string>

namespace emulation::watch {

// Where a lane stands in its launch.
struct Place {
  std::uint32_t block = 0;
  std::uint32_t lane = 0;            // in the thread block
  std::uint32_t block_barriers = 0;  // that it has passed
  std::uint32_t warp_barriers = 0;
};

std::string name(const Place& place);
// Counts what is wrong, and keeps the first of it in words.
void fault(const std::string& words);

// Memory of the device that launches may touch.
void allow(const void* memory, std::size_t bytes);
void allow_nothing();
// The memory of a thread block that is declared without a length.
void set_shared(const void* memory, std::size_t capacity);

void begin_launch(std::size_t shared_bytes);
void begin_block();
// Until end(), accesses are those of the lane at `place`, which has this stack.
void begin(const Place* place, const void* stack, std::size_t stack_bytes);
void end();
void read(const void* memory, std::size_t bytes);

}  // namespace emulation::watch
