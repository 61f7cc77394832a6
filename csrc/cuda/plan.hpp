#pragma once

// How the work on task gradients is cut up for a GPU: everything about it that needs no GPU, so
// that tests can walk through it on the CPU (test_device_plan.py).

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/gradient_table.hpp"
#include "common/team.hpp"

namespace pyfront::device {

inline constexpr std::int64_t max_tasks = 64;
inline constexpr int warp_lanes = 32;
inline constexpr int warps = 8;  // of one thread block
inline constexpr int threads = warps * warp_lanes;
inline constexpr int vector_bytes = 16;  // that one lane reads at a time
inline constexpr int tile_rows = 8;      // of one 8 × 8 product of the float64 matrix unit
inline constexpr int row_lanes = 4;      // lanes that read one of its rows

// ------------------------------------------------------------------------ the Gramian, warp by
// warp

// A warp multiplies 8 × 4 matrices of float64. With m ≤ 4 its eight rows are `copies` times the m
// tasks at different columns, of whose products only those inside a copy count; with m > 8 they are
// one of `groups` groups of tasks.
struct Shape {
  int rows = tile_rows;  // of one copy, ≥ min(m, 8)
  int groups = 1;
  int unroll = 1;  // vectors of one lane and group that are in flight together
  constexpr int copies() const { return tile_rows / rows; }
  constexpr int pairs() const { return groups * (groups + 1) / 2; }
};

constexpr Shape shape_for(std::int64_t tasks) {
  if (tasks <= 1) return {.rows = 1, .groups = 1, .unroll = 4};
  if (tasks <= 2) return {.rows = 2, .groups = 1, .unroll = 4};
  if (tasks <= 4) return {.rows = 4, .groups = 1, .unroll = 4};
  if (tasks <= 8) return {.rows = 8, .groups = 1, .unroll = 4};
  if (tasks <= 16) return {.rows = 8, .groups = 2, .unroll = 2};
  if (tasks <= 32) return {.rows = 8, .groups = 4, .unroll = 1};
  return {.rows = 8, .groups = 8, .unroll = 1};
}

// Thread blocks that a multiprocessor holds at once: what the registers of a kernel allow.
constexpr int resident_blocks(Shape shape) {
  return shape.groups == 1 ? 4 : shape.groups == 2 ? 3 : shape.groups == 4 ? 2 : 1;
}

// Columns that a warp, and a thread block, takes at a time; `vector` is in elements.
PYFRONT_HOST_DEVICE constexpr std::int64_t warp_columns(Shape shape, int vector) {
  return std::int64_t{tile_rows} / shape.rows * row_lanes * vector * shape.unroll;
}
constexpr std::int64_t gramian_tile(Shape shape, int vector) {
  return warps * warp_columns(shape, vector);
}

// What a lane reads: the task within a group, and the first column of its u-th vector.
PYFRONT_HOST_DEVICE constexpr int lane_row(Shape shape, int lane) {
  return lane / row_lanes % shape.rows;
}
PYFRONT_HOST_DEVICE constexpr std::int64_t lane_column(Shape shape, int vector, int lane, int u) {
  const int copy = lane / row_lanes / shape.rows;
  const int copies = tile_rows / shape.rows;
  return static_cast<std::int64_t>((u * copies + copy) * row_lanes + lane % row_lanes) * vector;
}

// Where C_ij, j ≤ i, of one copy stands in the 8 × 8 products: which product, and which entry.
PYFRONT_HOST_DEVICE constexpr int product_of(int i, int j) {
  const int gi = i / tile_rows;
  return gi * (gi + 1) / 2 + j / tile_rows;
}
PYFRONT_HOST_DEVICE constexpr int entry_of(Shape shape, int copy, int i, int j) {
  return (copy * shape.rows + i % tile_rows) * tile_rows + copy * shape.rows + j % tile_rows;
}

// Place of C_ij, j ≤ i, in a lower triangle stored row after row.
PYFRONT_HOST_DEVICE constexpr int triangle_index(int i, int j) { return i * (i + 1) / 2 + j; }

// Columns that a thread block of combine() takes at a time: one vector per thread.
constexpr std::int64_t combine_tile(int vector) { return std::int64_t{threads} * vector; }

// -------------------------------------------------------------------------------- tables of blocks

// The blocks of one launch, as a kernel argument: a copy that needs no memory, no transfer and no
// lifetime, in a CUDA graph too. A block is a record of 2 + rows words: the number of tiles up to
// its end, its length with the flag below, and the addresses of its rows (0: zeros).
struct BlockTable {
  static constexpr int capacity = 480;  // words: kernel arguments end at 4 KB
  std::int32_t blocks = 0;
  std::int32_t rows = 0;
  std::int64_t words[capacity];

  PYFRONT_HOST_DEVICE const std::int64_t* record(int block) const {
    return words + block * (rows + 2);
  }
  PYFRONT_HOST_DEVICE std::int64_t end_tile(int block) const { return record(block)[0]; }
  PYFRONT_HOST_DEVICE std::int64_t length(int block) const { return record(block)[1] >> 1; }
  // Whether all addresses are multiples of a vector.
  PYFRONT_HOST_DEVICE bool aligned(int block) const { return (record(block)[1] & 1) != 0; }
  PYFRONT_HOST_DEVICE void* row(int block, int index) const {
    return reinterpret_cast<void*>(record(block)[2 + index]);
  }
};

// One launch: the blocks of one dtype, or as many of them as the table takes.
struct Launch {
  DType dtype = DType::float32;
  BlockTable table;
  std::int64_t tiles = 0;
  std::int32_t grid = 0;    // thread blocks; each takes every grid-th tile
  std::int64_t filled = 0;  // slots in which earlier launches have left sums
};

struct Plan {
  std::vector<Launch> launches;
  std::int64_t slots = 0;  // partial sums of each entry of C: one per thread block
};

constexpr int vector_length(DType dtype) { return static_cast<int>(vector_bytes / size_of(dtype)); }

namespace detail {

inline std::string name_of(const char* table, std::int64_t task, std::int64_t block) {
  return std::string(table) + "[" + std::to_string(task) + "][" + std::to_string(block) + "]";
}

// Appends launches of blocks of one dtype; `tile` is in columns.
class Packer {
 public:
  Packer(Plan& plan, DType dtype, std::int64_t tile, int rows, int max_grid)
      : plan_(plan), dtype_(dtype), tile_(tile), rows_(rows), max_grid_(max_grid) {}

  // `address(row)` gives the rows' addresses.
  template <class Address>
  void add(std::int64_t length, const Address& address) {
    if (!open_ || (current().table.blocks + 1) * (rows_ + 2) > BlockTable::capacity) start();
    auto& launch = current();
    auto* record = launch.table.words + launch.table.blocks * (rows_ + 2);
    bool aligned = true;
    for (int row = 0; row < rows_; ++row) {
      const auto bits = reinterpret_cast<std::uintptr_t>(address(row));
      aligned &= bits % vector_bytes == 0;
      record[2 + row] = static_cast<std::int64_t>(bits);
    }
    launch.tiles += (length + tile_ - 1) / tile_;
    record[0] = launch.tiles;
    record[1] = length << 1 | (aligned ? 1 : 0);
    ++launch.table.blocks;
  }

  void finish() {
    if (!open_) return;
    auto& launch = current();
    launch.grid = static_cast<std::int32_t>(std::min<std::int64_t>(launch.tiles, max_grid_));
    launch.filled = plan_.slots;
    plan_.slots = std::max<std::int64_t>(plan_.slots, launch.grid);
    open_ = false;
  }

 private:
  Launch& current() { return plan_.launches.back(); }
  void start() {
    finish();
    auto& launch = plan_.launches.emplace_back();
    launch.dtype = dtype_;
    launch.table.rows = rows_;
    open_ = true;
  }

  Plan& plan_;
  DType dtype_;
  std::int64_t tile_;
  int rows_;
  int max_grid_;
  bool open_ = false;
};

// The matrix unit and vector loads need elements at multiples of their size.
inline void check_addresses(const GradientTable& table, const char* name) {
  for (std::int64_t task = 0; task < table.tasks; ++task) {
    for (std::int64_t block = 0; block < table.blocks; ++block) {
      const auto bits = reinterpret_cast<std::uintptr_t>(table.at(task, block));
      if (bits % static_cast<std::uintptr_t>(size_of(table.dtype(block))) != 0) {
        throw std::invalid_argument(name_of(name, task, block) +
                                    ": its memory starts inside an element");
      }
    }
  }
}

inline void check_tasks(std::int64_t tasks) {
  if (tasks > max_tasks) {
    throw std::invalid_argument("gradients: expected at most " + std::to_string(max_tasks) +
                                " rows on a CUDA device, the fixed loss's included, got " +
                                std::to_string(tasks));
  }
}

inline constexpr DType dtypes[] = {DType::float32, DType::bfloat16, DType::float16, DType::float64};

}  // namespace detail

// The launches that form C on a GPU with so many multiprocessors.
inline Plan plan_gramian(const GradientTable& jacobian, int multiprocessors) {
  detail::check_tasks(jacobian.tasks);
  detail::check_addresses(jacobian, "gradients");
  const auto rows = static_cast<int>(jacobian.tasks);
  const auto shape = shape_for(rows);
  Plan plan;
  for (const auto dtype : detail::dtypes) {
    detail::Packer packer(plan, dtype, gramian_tile(shape, vector_length(dtype)), rows,
                          multiprocessors * resident_blocks(shape));
    for (std::int64_t block = 0; block < jacobian.blocks; ++block) {
      if (jacobian.dtype(block) != dtype || jacobian.length(block) == 0) continue;
      bool present = false;
      for (int task = 0; task < rows; ++task) present |= jacobian.at(task, block) != nullptr;
      if (!present) continue;
      packer.add(jacobian.length(block), [&](int task) { return jacobian.at(task, block); });
    }
    packer.finish();
  }
  return plan;
}

// The launches that combine the rows; the last row of a record is the direction's.
inline Plan plan_combine(const GradientTable& jacobian, const GradientTable& direction,
                         int multiprocessors) {
  detail::check_tasks(jacobian.tasks);
  detail::check_addresses(jacobian, "gradients");
  detail::check_addresses(direction, "direction");
  const auto tasks = static_cast<int>(jacobian.tasks);
  constexpr int blocks_a_multiprocessor = 8;
  Plan plan;
  for (const auto dtype : detail::dtypes) {
    detail::Packer packer(plan, dtype, combine_tile(vector_length(dtype)), tasks + 1,
                          multiprocessors * blocks_a_multiprocessor);
    for (std::int64_t block = 0; block < direction.blocks; ++block) {
      if (direction.dtype(block) != dtype || direction.at(0, block) == nullptr) continue;
      packer.add(direction.length(block), [&](int row) {
        return row < tasks ? jacobian.at(row, block) : direction.at(0, block);
      });
    }
    packer.finish();
  }
  return plan;
}

// Where a tile lies. Tiles are asked for in rising order, so that the search goes on from the last
// answer.
struct TileCursor {
  int block = 0;
  std::int64_t begin = 0;  // first tile of the block

  PYFRONT_HOST_DEVICE std::int64_t seek(const BlockTable& table, std::int64_t tile) {
    while (tile >= table.end_tile(block)) {
      begin = table.end_tile(block);
      ++block;
    }
    return tile - begin;
  }
};

}  // namespace pyfront::device
