#include "gramian/gramian.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string_view>
#include <vector>

#include "common/parallel.hpp"
#include "gramian/kernels.hpp"

namespace pyfront {
namespace {

constexpr std::int64_t min_chunk_bytes = 1 << 18;  // of J, were it float32
constexpr std::int64_t chunks_a_worker = 2;        // so that the last one is not waited for long
constexpr double worth_a_thread = 1e6;             // ns: torch's idle threads spin, ours start late
constexpr double bytes_a_ns = 20.0;                // that one thread reads, about
constexpr double products_a_ns = 25.0;             // that it adds up, about
constexpr std::int64_t max_chunks = 128;           // bounds the memory of the partial Gramians
constexpr std::int64_t streaming_bytes = 1 << 23;  // a larger d would only push J out of the caches

// What this processor can run, the fastest first.
std::vector<const GramianKernels*> usable_kernels() {
  std::vector<const GramianKernels*> usable;
#if defined(__x86_64__)
  // feature by feature: older compilers do not know the names of the levels v3 and v4
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  if (v4) usable.push_back(&gramian_kernels_avx512);
  if (v3) usable.push_back(&gramian_kernels_avx2);
#endif
  usable.push_back(&gramian_kernels_baseline);
  return usable;
}

// Stands for any panel of a null block: zero bytes are zeros in every dtype.
alignas(64) constexpr double zeros[panel_width] = {};

// Numbers of unknown value at a cache line.
class Scratch {
 public:
  explicit Scratch(std::int64_t count)
      : data_(static_cast<double*>(::operator new[](
            static_cast<std::size_t>(count) * sizeof(double), std::align_val_t{64}))) {}
  double* data() const { return data_.get(); }

 private:
  struct Delete {
    void operator()(double* data) const { ::operator delete[](data, std::align_val_t{64}); }
  };
  std::unique_ptr<double[], Delete> data_;
};

// The parameters of all blocks in a row, [0, n), cut into chunks of equal length: what one thread
// takes at a time. The cut depends on the lengths alone.
struct Chunks {
  std::vector<std::int64_t> offsets;  // [blocks + 1], first parameter of each block
  std::int64_t width = panel_width;
  std::int64_t count = 0;

  Chunks(const GradientTable& table, std::int64_t rows) : offsets(1, 0) {
    offsets.reserve(static_cast<std::size_t>(table.blocks + 1));
    for (const auto length : table.lengths) offsets.push_back(offsets.back() + length);
    const auto round_up = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
    const auto smallest = min_chunk_bytes / (rows * std::int64_t{sizeof(float)});
    width = std::max<std::int64_t>({smallest, round_up(total(), max_chunks), 1});
    width = round_up(width, panel_width) * panel_width;
    count = round_up(total(), width);
  }

  std::int64_t offset(std::int64_t block) const { return offsets[static_cast<std::size_t>(block)]; }
  std::int64_t total() const { return offsets.back(); }
  std::int64_t begin(std::int64_t chunk) const { return chunk * width; }
  std::int64_t end(std::int64_t chunk) const { return std::min(total(), (chunk + 1) * width); }
  std::int64_t block_of(std::int64_t parameter) const {
    const auto next = std::upper_bound(offsets.begin(), offsets.end(), parameter);
    return next - offsets.begin() - 1;
  }
  // Threads for work that takes one of them so many ns.
  int workers(int threads, double ns) const {
    const auto useful = std::min(static_cast<double>(count / chunks_a_worker), ns / worth_a_thread);
    return static_cast<int>(std::clamp(useful, 1.0, std::max(static_cast<double>(threads), 1.0)));
  }
};

const void* element(const GradientTable& table, std::int64_t task, std::int64_t block,
                    std::int64_t index) {
  const auto* start = static_cast<const std::byte*>(table.at(task, block));
  return start == nullptr ? static_cast<const void*>(zeros)
                          : start + index * size_of(table.dtype(block));
}

// What one thread needs to add up a chunk of C.
class GramianWorker {
 public:
  GramianWorker(const GramianKernels& kernels, const GradientTable& table, const Chunks& chunks)
      : kernels_(kernels),
        table_(table),
        chunks_(chunks),
        // the widened panel of all tasks stays well inside a second-level cache
        width_(std::clamp<std::int64_t>(16384 / table.tasks / 64 * 64, 256, panel_width)),
        present_(static_cast<std::size_t>(table.tasks)),
        rows_(present_.size()),
        panel_(table.tasks * panel_stride),
        sums_(pair_index(table.tasks, 0) * sum_lanes),
        few_sums_(pair_index(table.tasks, 0) * sum_lanes) {}

  // Writes the chunk's share of the lower triangle of C.
  void run(std::int64_t chunk, double* share) {
    const auto pairs = pair_index(table_.tasks, 0);
    std::fill_n(sums_.data(), pairs * sum_lanes, 0.0);
    const auto end = chunks_.end(chunk);
    auto block = chunks_.block_of(chunks_.begin(chunk));
    for (auto k = chunks_.begin(chunk); k < end;) {
      while (chunks_.offset(block + 1) <= k) ++block;
      const auto width = std::min(width_, end - k);
      find_present(block, k + width);
      if (chunks_.offset(block + 1) - k >= width && width % sum_lanes == 0) {
        add_direct(block, k, width);
      } else {
        add_gathered(block, k, width);
      }
      k += width;
    }
    for (std::int64_t pair = 0; pair < pairs; ++pair) share[pair] = add_lanes(pair);
  }

 private:
  // The tasks that reach a block from `block` on and before parameter `end`: the others add zero.
  void find_present(std::int64_t block, std::int64_t end) {
    present_.clear();
    auto last = block;
    while (chunks_.offset(last + 1) < end) ++last;
    for (std::int64_t task = 0; task < table_.tasks; ++task) {
      for (auto b = block; b <= last; ++b) {
        if (table_.at(task, b) == nullptr) continue;
        present_.push_back(task);
        break;
      }
    }
  }

  // A panel inside one block is read where it lies.
  void add_direct(std::int64_t block, std::int64_t k, std::int64_t width) {
    for (std::size_t i = 0; i < present_.size(); ++i) {
      rows_[i] = element(table_, present_[i], block, k - chunks_.offset(block));
    }
    // few rows stream through so fast that the processor's own prefetching is better
    const auto few = static_cast<std::size_t>(row_tile);
    const bool prefetch = present_.size() > few && chunks_.offset(block + 1) - k > 2 * width;
    const auto ahead = prefetch ? 2 * width * size_of(table_.dtype(block)) : 0;
    add_products(table_.dtype(block), width, ahead);
  }

  // A panel across several blocks, or of odd width, is widened piece by piece, zeros behind it.
  void add_gathered(std::int64_t block, std::int64_t k, std::int64_t width) {
    for (std::int64_t done = 0; done < width; ++block) {
      const auto piece = std::min(chunks_.offset(block + 1) - (k + done), width - done);
      for (std::size_t i = 0; i < present_.size(); ++i) {
        kernels_.widen(element(table_, present_[i], block, k + done - chunks_.offset(block)),
                       table_.dtype(block), piece, panel_row(i) + done);
      }
      done += piece;
    }
    const auto padded = (width + sum_lanes - 1) / sum_lanes * sum_lanes;
    for (std::size_t i = 0; i < present_.size(); ++i) {
      std::fill(panel_row(i) + width, panel_row(i) + padded, 0.0);
      rows_[i] = panel_row(i);
    }
    add_products(DType::float64, padded, 0);
  }

  double* panel_row(std::size_t i) {
    return panel_.data() + static_cast<std::int64_t>(i) * panel_stride;
  }

  // Adds the products of `rows_`, one address for each present task.
  void add_products(DType dtype, std::int64_t count, std::int64_t ahead) {
    const auto tasks = static_cast<std::int64_t>(present_.size());
    const bool all = tasks == table_.tasks;
    const auto numbers = pair_index(tasks, 0) * sum_lanes;
    if (!all) std::fill_n(few_sums_.data(), numbers, 0.0);
    kernels_.add_products(rows_.data(), dtype, tasks, count, ahead, panel_.data(),
                          all ? sums_.data() : few_sums_.data());
    for (std::int64_t i = 0, number = 0; !all && i < tasks; ++i) {
      for (std::int64_t j = 0; j <= i; ++j) {
        const auto pair = pair_index(present_[static_cast<std::size_t>(i)],
                                     present_[static_cast<std::size_t>(j)]);
        double* sum = sums_.data() + pair * sum_lanes;
        for (std::int64_t lane = 0; lane < sum_lanes; ++lane)
          sum[lane] += few_sums_.data()[number++];
      }
    }
  }

  double add_lanes(std::int64_t pair) const {
    const double* s = sums_.data() + pair * sum_lanes;
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
  }

  const GramianKernels& kernels_;
  const GradientTable& table_;
  const Chunks& chunks_;
  std::int64_t width_;
  std::vector<std::int64_t> present_;
  std::vector<const void*> rows_;
  Scratch panel_;
  Scratch sums_;
  Scratch few_sums_;  // where only some tasks are present
};

// The chunk's part of d, in strips that end at cache lines.
void combine_chunk(const GramianKernels& kernels, const GradientTable& jacobian,
                   std::span<const double> weights, const GradientTable& direction,
                   const Chunks& chunks, std::int64_t chunk, std::span<const void*> rows) {
  const auto end = chunks.end(chunk);
  auto block = chunks.block_of(chunks.begin(chunk));
  for (auto k = chunks.begin(chunk); k < end;) {
    while (chunks.offset(block + 1) <= k) ++block;
    const auto index = k - chunks.offset(block);
    const auto size = size_of(direction.dtype(block));
    auto* out = static_cast<std::byte*>(direction.at(0, block)) + index * size;
    const auto misaligned = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(out) % 64);
    const auto stop = std::min(end, chunks.offset(block + 1));
    const auto width = std::min(panel_width - misaligned / size, stop - k);
    for (std::size_t task = 0; task < rows.size(); ++task) {
      rows[task] = element(jacobian, static_cast<std::int64_t>(task), block, index);
    }
    const bool streaming = misaligned == 0 && chunks.total() * size >= streaming_bytes;
    kernels.weighted_sum(rows.data(), direction.dtype(block), weights.data(), jacobian.tasks, width,
                         out, streaming);
    k += width;
  }
}

}  // namespace

std::vector<std::string_view> simd_levels() {
  std::vector<std::string_view> names;
  for (const auto* kernels : usable_kernels()) names.emplace_back(kernels->name);
  return names;
}

void gramian(const GradientTable& jacobian, std::span<double> c, int threads, std::size_t simd) {
  const auto& kernels = *usable_kernels().at(simd);
  const auto m = jacobian.tasks;
  const auto pairs = pair_index(m, 0);
  const Chunks chunks(jacobian, m);
  const Scratch shares(chunks.count * pairs);
  std::vector<GramianWorker> workers;
  const auto n = static_cast<double>(chunks.total());
  const double ns =
      n * static_cast<double>(m * 4) / bytes_a_ns + n * static_cast<double>(pairs) / products_a_ns;
  const int wide = chunks.workers(threads, ns);
  workers.reserve(static_cast<std::size_t>(wide));
  for (int worker = 0; worker < wide; ++worker) workers.emplace_back(kernels, jacobian, chunks);
  parallel_for(chunks.count, wide, [&](int worker, std::int64_t chunk) {
    workers[static_cast<std::size_t>(worker)].run(chunk, shares.data() + chunk * pairs);
  });
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j <= i; ++j) {
      double sum = 0.0;
      for (std::int64_t chunk = 0; chunk < chunks.count; ++chunk) {
        sum += shares.data()[chunk * pairs + pair_index(i, j)];
      }
      c[static_cast<std::size_t>(i * m + j)] = sum;
      c[static_cast<std::size_t>(j * m + i)] = sum;
    }
  }
}

void combine(const GradientTable& jacobian, std::span<const double> weights,
             const GradientTable& direction, int threads, std::size_t simd) {
  const auto& kernels = *usable_kernels().at(simd);
  const Chunks chunks(direction, jacobian.tasks);
  const auto bytes = 4.0 * static_cast<double>(chunks.total() * (jacobian.tasks + 1));
  const int wide = chunks.workers(threads, bytes / bytes_a_ns);
  const auto m = static_cast<std::size_t>(jacobian.tasks);
  std::vector<const void*> rows(m * static_cast<std::size_t>(wide));
  // from the end, which the caches still hold after gramian() has read J
  parallel_for(chunks.count, wide, [&](int worker, std::int64_t chunk) {
    const std::span own(rows.data() + m * static_cast<std::size_t>(worker), m);
    combine_chunk(kernels, jacobian, weights, direction, chunks, chunks.count - 1 - chunk, own);
  });
}

bool all_finite(const GradientTable& table, int threads, std::size_t simd) {
  const auto& kernels = *usable_kernels().at(simd);
  const Chunks chunks(table, table.tasks);
  const auto bytes = 4.0 * static_cast<double>(chunks.total() * table.tasks);
  std::atomic<bool> finite{true};
  const auto look = [&](int, std::int64_t chunk) {
    const auto end = chunks.end(chunk);
    auto block = chunks.block_of(chunks.begin(chunk));
    for (auto k = chunks.begin(chunk); k < end && finite.load(std::memory_order_relaxed);) {
      while (chunks.offset(block + 1) <= k) ++block;
      const auto stop = std::min(end, chunks.offset(block + 1));
      for (std::int64_t task = 0; task < table.tasks; ++task) {
        if (table.at(task, block) == nullptr) continue;
        const auto* source = element(table, task, block, k - chunks.offset(block));
        if (!kernels.finite(source, table.dtype(block), stop - k)) finite.store(false);
      }
      k = stop;
    }
  };
  parallel_for(chunks.count, chunks.workers(threads, bytes / bytes_a_ns), look);
  return finite.load();
}

}  // namespace pyfront
