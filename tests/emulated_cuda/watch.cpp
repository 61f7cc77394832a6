#include "watch.hpp"

#include <iterator>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

extern "C" {
// the linker's
__attribute__((visibility("hidden"))) extern const char __ehdr_start;
__attribute__((visibility("hidden"))) extern const char _end;
}

namespace emulation::watch {
namespace {

constexpr std::uintptr_t granule = 2;  // bytes of the smallest element
constexpr std::uint32_t warp_lanes = 32;

struct Range {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  Range() = default;
  Range(const void* memory, std::size_t bytes)
      : begin(reinterpret_cast<std::uintptr_t>(memory)), end(begin + bytes) {}
  bool holds(const Range& other) const { return begin <= other.begin && other.end <= end; }
};

// The accesses to a granule that can still be part of a race.
struct Cell {
  Place write;
  bool written = false;
  std::vector<Place> reads;  // since that write: the last one of each lane of the latest block
  bool read_by_earlier_block = false;
  std::uint64_t epoch = 0;
  bool left_over = false;  // holds what an earlier thread block has written
};
using Cells = std::unordered_map<std::uintptr_t, Cell>;

Cells of_launch;
Cells of_block;                                    // of the image: each thread block has its own
std::uint64_t epoch = 0;                           // thread blocks that have begun
std::map<std::uintptr_t, std::uintptr_t> allowed;  // begin and end
// the program, with its constants and with the memory of a thread block that has a length
const Range image(&__ehdr_start, static_cast<std::size_t>(&_end - &__ehdr_start));
Range shared;  // as much of it as the launch asked for
std::uintptr_t shared_capacity_end = 0;
const Place* now = nullptr;
bool looking = false;  // templates that both files use may be compiled with calls to look()
Range stack;
int count = 0;
std::string first;

// Whether `before` has happened wherever `after` happens.
bool ordered(const Place& before, const Place& after) {
  if (before.block != after.block) return false;
  if (before.lane == after.lane || before.block_barriers < after.block_barriers) return true;
  return before.lane / warp_lanes == after.lane / warp_lanes &&
         before.warp_barriers < after.warp_barriers;
}

void lane_fault(const std::string& words) { fault(name(*now) + " " + words); }

void read(Cell& cell) {
  if (cell.written && !ordered(cell.write, *now)) {
    lane_fault("reads what " + name(cell.write) + " writes, and nothing orders them");
  }
  if (!cell.reads.empty() && cell.reads.front().block != now->block) {
    cell.read_by_earlier_block = true;
    cell.reads.clear();
  }
  for (auto& read : cell.reads) {
    if (read.lane == now->lane) return void(read = *now);
  }
  cell.reads.push_back(*now);
}

void write(Cell& cell) {
  if (cell.written && !ordered(cell.write, *now)) {
    lane_fault("writes what " + name(cell.write) + " writes, and nothing orders them");
  }
  if (cell.read_by_earlier_block) lane_fault("writes what an earlier block reads");
  for (const auto& read : cell.reads) {
    if (ordered(read, *now)) continue;
    lane_fault("writes what " + name(read) + " reads, and nothing orders them");
  }
  cell = {.write = *now, .written = true, .epoch = epoch};
}

bool in_bounds(const Range& range) {
  if (image.holds(range))
    return range.end <= shared.begin || range.begin >= shared_capacity_end || shared.holds(range);
  const auto next = allowed.upper_bound(range.begin);
  return next != allowed.begin() && range.end <= std::prev(next)->second;
}

void look(const Range& range, bool writes) {
  const auto bytes = range.end - range.begin;
  const auto words = (writes ? "writes " : "reads ") + std::to_string(bytes) + " bytes ";
  if (!in_bounds(range)) return lane_fault(words + "out of bounds");
  if (bytes <= 16 && range.begin % bytes != 0) lane_fault(words + "at no multiple of that");
  auto& cells = image.holds(range) ? of_block : of_launch;
  for (auto at = range.begin; at < range.end; at += granule) {
    auto& cell = cells[at / granule];
    if (&cells == &of_block && cell.epoch != epoch) {
      cell = {.epoch = epoch, .left_over = cell.written || cell.left_over};
    }
    const bool of_nobody = !cell.written && (cell.left_over || shared.holds(range));
    if (!writes && of_nobody) lane_fault(words + "that no lane has written");
    writes ? write(cell) : read(cell);
  }
}

void look(const void* memory, std::size_t bytes, bool writes) {
  const Range range(memory, bytes);
  if (now == nullptr || looking || stack.holds(range)) return;
  looking = true;
  look(range, writes);
  looking = false;
}

}  // namespace

std::string name(const Place& place) {
  return "lane " + std::to_string(place.lane) + " of block " + std::to_string(place.block);
}
void fault(const std::string& words) {
  if (count++ == 0) first = words;
}

void allow(const void* memory, std::size_t bytes) {
  if (memory == nullptr) return;
  const Range range(memory, bytes);
  auto& end = allowed[range.begin];
  if (end < range.end) end = range.end;
}
void allow_nothing() { allowed.clear(); }
void set_shared(const void* memory, std::size_t capacity) {
  shared = Range(memory, 0);
  shared_capacity_end = shared.begin + capacity;
}

void begin_launch(std::size_t shared_bytes) {
  of_launch.clear();
  shared.end = shared.begin + shared_bytes;
}
void begin_block() { ++epoch; }
void begin(const Place* place, const void* memory, std::size_t bytes) {
  now = place;
  stack = Range(memory, bytes);
}
void end() { now = nullptr; }
void read(const void* memory, std::size_t bytes) { look(memory, bytes, false); }

}  // namespace emulation::watch

extern "C" {

// What was wrong since the last call of forget_faults(), and the first of it in words.
int faults() { return emulation::watch::count; }
const char* first_fault() { return emulation::watch::first.c_str(); }
void forget_faults() {
  emulation::watch::count = 0;
  emulation::watch::first.clear();
}

// What the compiler calls.

using emulation::watch::look;

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_read1(void* at) { look(at, 1, false); }
void __tsan_read2(void* at) { look(at, 2, false); }
void __tsan_read4(void* at) { look(at, 4, false); }
void __tsan_read8(void* at) { look(at, 8, false); }
void __tsan_read16(void* at) { look(at, 16, false); }
void __tsan_write1(void* at) { look(at, 1, true); }
void __tsan_write2(void* at) { look(at, 2, true); }
void __tsan_write4(void* at) { look(at, 4, true); }
void __tsan_write8(void* at) { look(at, 8, true); }
void __tsan_write16(void* at) { look(at, 16, true); }
void __tsan_read_range(void* at, std::size_t bytes) { look(at, bytes, false); }
void __tsan_write_range(void* at, std::size_t bytes) { look(at, bytes, true); }
}
