// C = J Jᵀ and d = Jᵀ w on a CUDA device (sm_75 and newer).
//
// Float32 and narrower elements are widened to float64, where their products are exact, and
// multiplied by the float64 matrix unit (from sm_80 on). In its 8 × 8 × 4 product J Jᵀ a lane holds
// the same element of the left and of the right factor, and the order of the columns is free: so a
// lane loads 16 bytes of one task, and each element of them goes into one product, with no shuffle
// and no shared memory. Each thread block keeps its sums in registers over all of its tiles
// and leaves them in a slot of its own, to which later launches add; a second kernel sums the slots
// in a fixed order.

#include <cstdint>

#include "cuda/call.cuh"
#include "cuda/elements.cuh"

namespace pyfront::device {
namespace {

// sums += left · rightᵀ for 8 × 4 matrices; lane 4 r + q holds element (r, q) of both factors, and
// entries (r, 2 q) and (r, 2 q + 1) of the sums.
[[maybe_unused]] __device__ __forceinline__ void multiply_by_matrix_unit(double (&sums)[2],
                                                                         double left,
                                                                         double right) {
  asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
      : "+d"(sums[0]), "+d"(sums[1])
      : "d"(left), "d"(right));
}
// The same on sm_75; it is bound by the float64 units, so that short code is as fast as long code.
[[maybe_unused]] __device__ __forceinline__ void multiply_by_shuffles(double (&sums)[2],
                                                                      double left, double right) {
  const int lane = static_cast<int>(threadIdx.x) % warp_lanes;
  const int row = lane / row_lanes * row_lanes;
  const int column = lane % row_lanes * 2 * row_lanes;
#pragma unroll 1
  for (int k = 0; k < row_lanes; ++k) {
    const double factor = __shfl_sync(0xffffffffu, left, row + k);
    sums[0] = fma(factor, __shfl_sync(0xffffffffu, right, column + k), sums[0]);
    sums[1] = fma(factor, __shfl_sync(0xffffffffu, right, column + row_lanes + k), sums[1]);
  }
}
__device__ __forceinline__ void multiply(double (&sums)[2], double left, double right) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  multiply_by_shuffles(sums, left, right);
#else
  multiply_by_matrix_unit(sums, left, right);
#endif
}

template <class T, int rows, int groups, int unroll>
__global__ void __launch_bounds__(threads, resident_blocks(Shape{rows, groups, unroll}))
    gramian_kernel(const __grid_constant__ BlockTable table, int tasks, std::int64_t tiles,
                   std::int64_t filled, std::int64_t slots, double* partials) {
  constexpr Shape shape{rows, groups, unroll};
  constexpr std::int64_t width = warp_columns(shape, T::vector);
  const int lane = static_cast<int>(threadIdx.x) % warp_lanes;
  const int warp = static_cast<int>(threadIdx.x) / warp_lanes;
  const int own = lane_row(shape, lane);
  double sums[shape.pairs()][2] = {};

  TileCursor cursor;
  for (std::int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const auto column = (cursor.seek(table, tile) * warps + warp) * width;
    const auto length = table.length(cursor.block);
    if (column >= length) continue;
    Vector x[groups][unroll];
    const auto load_all = [&](const auto& load) {
#pragma unroll
      for (int group = 0; group < groups; ++group) {
        const int task = group * tile_rows + own;
        const void* const row = task < tasks ? table.row(cursor.block, task) : nullptr;
#pragma unroll
        for (int u = 0; u < unroll; ++u) {
          x[group][u] = load(row, column + lane_column(shape, T::vector, lane, u));
        }
      }
    };
    if (table.aligned(cursor.block) && column + width <= length) {
      load_all([](const void* row, std::int64_t at) { return load_whole(T{}, row, at); });
    } else {
      load_all([&](const void* row, std::int64_t at) { return load_some(T{}, row, at, length); });
    }
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
#pragma unroll
      for (int v = 0; v < T::vector; ++v) {
        double wide[groups];
#pragma unroll
        for (int group = 0; group < groups; ++group) wide[group] = widen(T{}, x[group][u], v);
#pragma unroll
        for (int i = 0; i < groups; ++i) {
#pragma unroll
          for (int j = 0; j <= i; ++j) multiply(sums[triangle_index(i, j)], wide[i], wide[j]);
        }
      }
    }
  }

  // the warps' sums in the order of the warps, then the copies'
  __shared__ double total[shape.pairs()][tile_rows * tile_rows];
  for (int turn = 0; turn < warps; ++turn) {
    if (warp == turn) {
#pragma unroll
      for (int pair = 0; pair < shape.pairs(); ++pair) {
        double* const entry = total[pair] + lane / row_lanes * tile_rows + lane % row_lanes * 2;
        entry[0] = turn == 0 ? sums[pair][0] : entry[0] + sums[pair][0];
        entry[1] = turn == 0 ? sums[pair][1] : entry[1] + sums[pair][1];
      }
    }
    __syncthreads();
  }
  for (int k = static_cast<int>(threadIdx.x); k < tasks * tasks; k += threads) {
    const int i = k / tasks;
    const int j = k % tasks;
    if (j > i) continue;
    double sum = 0.0;
    for (int copy = 0; copy < shape.copies(); ++copy) {
      sum += total[product_of(i, j)][entry_of(shape, copy, i, j)];
    }
    double& slot = partials[triangle_index(i, j) * slots + blockIdx.x];
    slot = blockIdx.x < filled ? slot + sum : sum;
  }
}

// One warp for one entry of the lower triangle.
__global__ void sum_kernel(const double* partials, std::int64_t slots, int tasks, double* c) {
  const int i = static_cast<int>(blockIdx.x) / tasks;
  const int j = static_cast<int>(blockIdx.x) % tasks;
  if (j > i) return;
  const double* const mine = partials + triangle_index(i, j) * slots;
  double sum = 0.0;
  for (std::int64_t slot = threadIdx.x; slot < slots; slot += warp_lanes) sum += mine[slot];
  for (int distance = warp_lanes / 2; distance > 0; distance /= 2) {
    sum += __shfl_down_sync(0xffffffffu, sum, static_cast<unsigned>(distance));
  }
  if (threadIdx.x == 0) {
    c[i * tasks + j] = sum;
    c[j * tasks + i] = sum;
  }
}

template <class T>
__global__ void __launch_bounds__(threads)
    combine_kernel(const __grid_constant__ BlockTable table, int tasks, std::int64_t tiles,
                   const double* weights) {
  constexpr int batch = 4;  // loads in flight
  __shared__ double w[max_tasks];
  if (threadIdx.x < tasks) w[threadIdx.x] = weights[threadIdx.x];
  __syncthreads();
  TileCursor cursor;
  for (std::int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const auto column =
        cursor.seek(table, tile) * combine_tile(T::vector) + threadIdx.x * T::vector;
    const auto length = table.length(cursor.block);
    if (column >= length) continue;
    const bool whole = table.aligned(cursor.block) && column + T::vector <= length;
    double sums[T::vector] = {};
    for (int first = 0; first < tasks; first += batch) {
      Vector x[batch];
      const auto load_all = [&](const auto& load) {
#pragma unroll
        for (int k = 0; k < batch; ++k) {
          x[k] = load(first + k < tasks ? table.row(cursor.block, first + k) : nullptr);
        }
      };
      if (whole) {
        load_all([&](const void* row) { return load_whole(T{}, row, column); });
      } else {
        load_all([&](const void* row) { return load_some(T{}, row, column, length); });
      }
#pragma unroll
      for (int k = 0; k < batch; ++k) {
        if (first + k >= tasks) break;
        const double weight = w[first + k];
#pragma unroll
        for (int v = 0; v < T::vector; ++v) sums[v] = fma(weight, widen(T{}, x[k], v), sums[v]);
      }
    }
    Vector out;
#pragma unroll
    for (int v = 0; v < T::vector; ++v) narrow(T{}, out, v, sums[v]);
    void* const row = table.row(cursor.block, tasks);
    if (whole) {
      constexpr int bytes = vector_bytes / T::vector;
      *reinterpret_cast<uint4*>(static_cast<char*>(row) + column * bytes) = out.whole;
    } else {
      store_some(T{}, row, column, length, out);
    }
  }
}

template <class T, int tasks>
constexpr auto kernel_for() {
  constexpr Shape shape = shape_for(tasks);
  return gramian_kernel<T, shape.rows, shape.groups, shape.unroll>;
}

template <class T>
auto gramian_kernel_of(std::int64_t tasks) {
  if (tasks <= 1) return kernel_for<T, 1>();
  if (tasks <= 2) return kernel_for<T, 2>();
  if (tasks <= 4) return kernel_for<T, 4>();
  if (tasks <= 8) return kernel_for<T, 8>();
  if (tasks <= 16) return kernel_for<T, 16>();
  if (tasks <= 32) return kernel_for<T, 32>();
  return kernel_for<T, 64>();
}

}  // namespace

std::string unavailable() {
  int count = 0;
  const auto error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return std::string("CUDA cannot be used: ") + cudaGetErrorString(error) +
           " (the core was built with CUDA " + std::to_string(CUDART_VERSION / 1000) + "." +
           std::to_string(CUDART_VERSION % 1000 / 10) + ")";
  }
  if (count == 0) return "there is no CUDA device";
  for (int device = 0; device < count; ++device) {
    const int major = attribute(cudaDevAttrComputeCapabilityMajor, device);
    const int minor = attribute(cudaDevAttrComputeCapabilityMinor, device);
    if (10 * major + minor >= 75) return "";
  }
  return "no CUDA device has compute capability 7.5 or newer";
}

int multiprocessors(int device) { return attribute(cudaDevAttrMultiProcessorCount, device); }

void gramian(const Plan& plan, std::int64_t tasks, double* c, double* partials, Stream stream) {
  const auto m = static_cast<int>(tasks);
  for (const auto& part : plan.launches) {
    with_type(part.dtype, [&](auto type) {
      launch(gramian_kernel_of<decltype(type)>(tasks), "launch of the Gramian kernel",
             static_cast<unsigned>(part.grid), threads, 0, stream, part.table, m, part.tiles,
             part.filled, plan.slots, partials);
    });
  }
  launch(sum_kernel, "launch of the Gramian's sum", static_cast<unsigned>(m * m), warp_lanes, 0,
         stream, partials, plan.slots, m, c);
}

void combine(const Plan& plan, std::int64_t tasks, const double* weights, Stream stream) {
  for (const auto& part : plan.launches) {
    if (part.grid == 0) continue;  // blocks of length 0 alone
    with_type(part.dtype, [&](auto type) {
      launch(combine_kernel<decltype(type)>, "launch of the combination kernel",
             static_cast<unsigned>(part.grid), threads, 0, stream, part.table,
             static_cast<int>(tasks), part.tiles, weights);
    });
  }
}

}  // namespace pyfront::device
