// What the CUDA kernels do, lane by lane, on the CPU: compiled and called by test_device_plan.py.

#include <atomic>
#include <barrier>
#include <bit>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include "device_plan.hpp"
#include "nearest_point.hpp"
#include "pareto_mtl.hpp"

namespace pf = pyfront;
namespace dev = pyfront::device;

namespace {

double widen(pf::DType dtype, const void* row, std::int64_t index) {
  if (row == nullptr) return 0.0;
  switch (dtype) {
    case pf::DType::float32:
      return static_cast<const float*>(row)[index];
    case pf::DType::float64:
      return static_cast<const double*>(row)[index];
    case pf::DType::bfloat16: {
      const auto bits = static_cast<const std::uint16_t*>(row)[index];
      return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
    }
    case pf::DType::float16: {
      const auto bits = static_cast<const std::uint16_t*>(row)[index];
      const int exponent = bits >> 10 & 31;
      const int mantissa = bits & 1023;
      const double magnitude = exponent == 0    ? std::ldexp(mantissa, -24)
                               : exponent == 31 ? (mantissa != 0 ? NAN : INFINITY)
                                                : std::ldexp(mantissa + 1024, exponent - 25);
      return (bits & 0x8000) != 0 ? -magnitude : magnitude;
    }
  }
  return NAN;
}

pf::GradientTable table_of(int tasks, int blocks, void** pointers, const std::int64_t* lengths,
                           const std::uint8_t* dtypes) {
  const auto count = static_cast<std::size_t>(blocks);
  return {.tasks = tasks,
          .blocks = blocks,
          .pointers = {pointers, count * static_cast<std::size_t>(tasks)},
          .lengths = {lengths, count},
          .dtypes = {reinterpret_cast<const pf::DType*>(dtypes), count}};
}

// One thread block of gramian_kernel, into its slot.
void run_block(const dev::Launch& launch, int block_index, int tasks, std::int64_t slots,
               std::vector<double>& partials) {
  const auto shape = dev::shape_for(tasks);
  const int vector = dev::vector_length(launch.dtype);
  const auto width = dev::warp_columns(shape, vector);
  const auto& table = launch.table;
  // sums[warp][product][entry]
  const auto entries = static_cast<std::size_t>(shape.pairs() * 64);
  std::vector<double> sums(dev::warps * entries, 0.0);
  for (int warp = 0; warp < dev::warps; ++warp) {
    dev::TileCursor cursor;
    for (std::int64_t tile = block_index; tile < launch.tiles; tile += launch.grid) {
      const auto column = (cursor.seek(table, tile) * dev::warps + warp) * width;
      const auto length = table.length(cursor.block);
      if (column >= length) continue;
      const auto element = [&](int group, int lane, int u, int v) {
        const int task = group * dev::tile_rows + dev::lane_row(shape, lane);
        const auto at = column + dev::lane_column(shape, vector, lane, u) + v;
        if (task >= tasks || at >= length) return 0.0;
        return widen(launch.dtype, table.row(cursor.block, task), at);
      };
      for (int u = 0; u < shape.unroll; ++u) {
        for (int v = 0; v < vector; ++v) {
          for (int i = 0; i < shape.groups; ++i) {
            for (int j = 0; j <= i; ++j) {
              double* const out = sums.data() + static_cast<std::size_t>(warp) * entries +
                                  static_cast<std::size_t>(dev::triangle_index(i, j) * 64);
              for (int r = 0; r < 8; ++r) {
                for (int c = 0; c < 8; ++c) {
                  for (int k = 0; k < 4; ++k) {  // lane 4 r + k holds element (r, k) of a factor
                    out[r * 8 + c] = std::fma(element(i, 4 * r + k, u, v),
                                              element(j, 4 * c + k, u, v), out[r * 8 + c]);
                  }
                }
              }
            }
          }
        }
      }
    }
  }
  for (int i = 0; i < tasks; ++i) {
    for (int j = 0; j <= i; ++j) {
      double sum = 0.0;
      for (int copy = 0; copy < shape.copies(); ++copy) {
        double of_copy = 0.0;
        for (int warp = 0; warp < dev::warps; ++warp) {
          const auto at = static_cast<std::size_t>(dev::product_of(i, j) * 64 +
                                                   dev::entry_of(shape, copy, i, j));
          of_copy += sums[static_cast<std::size_t>(warp) * entries + at];
        }
        sum += of_copy;
      }
      partials[static_cast<std::size_t>(dev::triangle_index(i, j) * slots + launch.first_slot +
                                        block_index)] = sum;
    }
  }
}

// A team of threads that take turns as the lanes of a warp do.
struct ThreadTeam {
  using Index = int;
  static constexpr Index chunk = 1;
  static constexpr Index block = 1;
  std::barrier<>* barrier;
  std::atomic<bool>* flag;
  int own;
  int members;
  Index rank() const { return own; }
  Index size() const { return members; }
  void sync() const { barrier->arrive_and_wait(); }
  bool any(bool value) const {
    sync();
    if (own == 0) flag->store(false);
    sync();
    if (value) flag->store(true);
    sync();
    return flag->load();
  }
};

template <class Body>
void with_team(int members, const Body& body) {
  std::barrier<> barrier(members);
  std::atomic<bool> flag{false};
  std::vector<std::thread> threads;
  for (int own = 0; own < members; ++own) {
    threads.emplace_back([&, own] { body(ThreadTeam{&barrier, &flag, own, members}); });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace

extern "C" {

// C as the kernels sum it, on a GPU with so many multiprocessors. Returns the number of launches,
// −1 for a refusal.
int emulate_gramian(int tasks, int blocks, void** pointers, const std::int64_t* lengths,
                    const std::uint8_t* dtypes, int multiprocessors, double* c) {
  dev::Plan plan;
  try {
    plan = dev::plan_gramian(table_of(tasks, blocks, pointers, lengths, dtypes), multiprocessors);
  } catch (const std::invalid_argument&) {
    return -1;
  }
  std::vector<double> partials(static_cast<std::size_t>(plan.slots * tasks * (tasks + 1) / 2), NAN);
  for (const auto& launch : plan.launches) {
    for (int block = 0; block < launch.grid; ++block) {
      run_block(launch, block, tasks, plan.slots, partials);
    }
  }
  for (int i = 0; i < tasks; ++i) {
    for (int j = 0; j <= i; ++j) {
      double lanes[dev::warp_lanes] = {};
      const double* const mine =
          partials.data() + static_cast<std::int64_t>(dev::triangle_index(i, j)) * plan.slots;
      for (std::int64_t slot = 0; slot < plan.slots; ++slot) {
        lanes[slot % dev::warp_lanes] += mine[slot];
      }
      for (int distance = dev::warp_lanes / 2; distance > 0; distance /= 2) {
        for (int lane = 0; lane < distance; ++lane) lanes[lane] += lanes[lane + distance];
      }
      c[i * tasks + j] = c[j * tasks + i] = lanes[0];
    }
  }
  return static_cast<int>(plan.launches.size());
}

// d as the kernels sum it, in float64 before it is rounded; out of the blocks that `direction`
// has, one after the other.
int emulate_combine(int tasks, int blocks, void** pointers, void** direction,
                    const std::int64_t* lengths, const std::uint8_t* dtypes, const double* weights,
                    int multiprocessors, double* d) {
  const auto plan =
      dev::plan_combine(table_of(tasks, blocks, pointers, lengths, dtypes),
                        table_of(1, blocks, direction, lengths, dtypes), multiprocessors);
  std::vector<std::int64_t> offsets(1, 0);
  for (int block = 0; block < blocks; ++block) offsets.push_back(offsets.back() + lengths[block]);
  for (const auto& launch : plan.launches) {
    const int vector = dev::vector_length(launch.dtype);
    for (int block = 0; block < launch.grid; ++block) {
      dev::TileCursor cursor;
      for (std::int64_t tile = block; tile < launch.tiles; tile += launch.grid) {
        const auto first = cursor.seek(launch.table, tile) * dev::combine_tile(vector);
        const void* const out = launch.table.row(cursor.block, tasks);
        int place = 0;
        while (direction[place] != out) ++place;
        const auto end =
            std::min(launch.table.length(cursor.block), first + dev::combine_tile(vector));
        for (auto k = first; k < end; ++k) {
          double sum = 0.0;
          for (int task = 0; task < tasks; ++task) {
            sum = std::fma(weights[task],
                           widen(launch.dtype, launch.table.row(cursor.block, task), k), sum);
          }
          d[offsets[static_cast<std::size_t>(place)] + k] += sum;  // twice would show
        }
      }
    }
  }
  return static_cast<int>(plan.launches.size());
}

// The plan for lengths that no memory holds: for each launch tiles, grid, blocks, first slot, the
// last block's end tile and its length, aligned or not.
int describe_plan(int tasks, int blocks, void** pointers, const std::int64_t* lengths,
                  const std::uint8_t* dtypes, int multiprocessors, int capacity,
                  std::int64_t* rows) {
  const auto plan =
      dev::plan_gramian(table_of(tasks, blocks, pointers, lengths, dtypes), multiprocessors);
  int count = 0;
  for (const auto& launch : plan.launches) {
    if (count == capacity) return -1;
    const int last = launch.table.blocks - 1;
    const std::int64_t values[] = {launch.tiles,
                                   launch.grid,
                                   launch.table.blocks,
                                   launch.first_slot,
                                   launch.table.end_tile(last),
                                   launch.table.length(last),
                                   launch.table.aligned(last)};
    std::memcpy(rows + 7 * count++, values, sizeof values);
  }
  return count;
}

std::int64_t tile_columns(int tasks, int dtype) {
  const auto type = static_cast<pf::DType>(dtype);
  return dev::gramian_tile(dev::shape_for(tasks), dev::vector_length(type));
}

// Whether the lanes of a warp read every (task, column) of a warp's tile once.
int lanes_cover_tile(int tasks, int dtype) {
  const auto shape = dev::shape_for(tasks);
  const int vector = dev::vector_length(static_cast<pf::DType>(dtype));
  const auto width = dev::warp_columns(shape, vector);
  std::vector<int> seen(static_cast<std::size_t>(shape.rows * width), 0);
  for (int lane = 0; lane < dev::warp_lanes; ++lane) {
    for (int u = 0; u < shape.unroll; ++u) {
      for (int v = 0; v < vector; ++v) {
        const auto at = dev::lane_column(shape, vector, lane, u) + v;
        if (at < 0 || at >= width) return 0;
        ++seen[static_cast<std::size_t>(dev::lane_row(shape, lane) * width + at)];
      }
    }
  }
  return std::ranges::all_of(seen, [](int count) { return count == 1; }) ? 1 : 0;
}

// Min-norm weights by a team of threads; returns the status.
int team_min_norm(const double* gramian, int tasks, int members, double* weights, double* gap) {
  std::vector<double> memory(static_cast<std::size_t>(pf::NearestPoint<ThreadTeam>::memory(tasks)));
  std::vector<std::int64_t> vertices(static_cast<std::size_t>(tasks));
  pf::MinNormResult result;
  with_team(members, [&](ThreadTeam team) {
    pf::NearestPoint<ThreadTeam> solver(team, tasks, memory.data(), vertices.data());
    const auto own = solver.solve(gramian, nullptr, weights, {}, false);
    if (team.rank() == 0) result = own;
  });
  *gap = result.gap;
  return static_cast<int>(result.status);
}

// Pareto MTL's weights by a team of threads; returns the status.
int team_pareto_mtl(const double* losses, const double* gramian, const double* vectors, int tasks,
                    int count, int index, int phase, double epsilon, int members, double* weights,
                    double* gap) {
  using Solver = pf::ParetoMtl<ThreadTeam>;
  const int rows = Solver::max_rows(tasks, count);
  std::vector<double> own_memory(static_cast<std::size_t>(Solver::memory(tasks, count)));
  std::vector<double> memory(static_cast<std::size_t>(pf::NearestPoint<ThreadTeam>::memory(rows)));
  std::vector<std::int64_t> vertices(static_cast<std::size_t>(rows));
  pf::ParetoMtlResult result;
  with_team(members, [&](ThreadTeam team) {
    Solver solver(team,
                  {.tasks = tasks,
                   .vectors = count,
                   .index = index,
                   .losses = losses,
                   .gramian = gramian,
                   .reference_vectors = vectors},
                  own_memory.data());
    const auto own = solver.solve({.phase = static_cast<pf::Phase>(phase), .epsilon = epsilon},
                                  weights, [&](const double* inner, int active, double* dual) {
                                    pf::NearestPoint<ThreadTeam> min_norm(
                                        team, active, memory.data(), vertices.data());
                                    return min_norm.solve(inner, nullptr, dual, {}, false);
                                  });
    if (team.rank() == 0) result = own;
  });
  *gap = result.gap;
  return static_cast<int>(result.status);
}
}
