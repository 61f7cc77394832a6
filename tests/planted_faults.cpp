// Kernels with one fault each, and sound ones: what test_watch.py must find and leave alone.

#include <cstddef>
#include <memory>

#include "cuda_runtime.h"  // the emulated one

namespace {

constexpr unsigned threads = 64;
constexpr unsigned blocks = 2;

double shared[8 << 10];

__attribute__((noinline)) void use(double value) { [[maybe_unused]] volatile double kept = value; }
double& own() { return shared[threadIdx.x]; }
double& neighbour() { return shared[(threadIdx.x + 1) % threads]; }
double& far_one() { return shared[(threadIdx.x + 32) % threads]; }  // of the other warp
double& partner() { return shared[threadIdx.x ^ 1]; }               // of the same warp

// ------------------------------------------------------------------------------------------ sound

void exchange_among_threads(double* out) {
  own() = 1.0;
  __syncthreads();
  const double value = neighbour();
  __syncthreads();
  own() = value;
  out[blockIdx.x * threads + threadIdx.x] = own();
}

void exchange_in_a_warp(double*) {
  own() = 1.0;
  __syncwarp();
  const double value = partner();
  __syncwarp();
  own() = value;
}

void read_what_all_read(double* out) { use(out[0]); }

void do_nothing(double*) {}

// ----------------------------------------------------------------------------------------- faulty

void read_without_barrier(double*) {
  own() = 1.0;
  use(partner());
}

void write_without_barrier(double*) {
  own() = 1.0;
  __syncthreads();
  use(partner());
  own() = 2.0;
}

void warp_barrier_among_warps(double*) {
  own() = 1.0;
  __syncwarp();
  use(far_one());
}

void shuffle_as_barrier(double*) {
  own() = 1.0;
  use(__shfl_down_sync(0xffffffffu, 1.0, 1));
  use(partner());
}

void one_word_for_two_blocks(double* out) {
  if (threadIdx.x == 0) out[0] = 1.0;
}

void write_what_the_first_block_reads(double* out) {
  if (blockIdx.x == 0) use(out[0]);
  if (blockIdx.x == 1 && threadIdx.x == 0) out[0] = 1.0;
}

void past_the_end(double* out) { use(out[blocks * threads - 1 + threadIdx.x]); }

void past_the_shared_memory(double*) { shared[threads + threadIdx.x] = 1.0; }

void load_between_vectors(double* out) {
  const auto* const address = reinterpret_cast<const uint4*>(out + 1);
  use(__ldg(address)[0]);
}

void store_between_vectors(double* out) {
  *reinterpret_cast<uint4*>(out + 1) = make_uint4(0, 0, 0, 0);
}

void copy_between_vectors(double* out) {
  union {
    uint4 whole;
    unsigned words[4];
  } x;
  x.whole = __ldg(reinterpret_cast<const uint4*>(out));
  x.words[1] += 1;
  *reinterpret_cast<uint4*>(out + 1) = x.whole;
}

void shared_memory_of_nobody(double*) { use(own()); }

void shared_memory_of_an_earlier_block(double*) {
  if (blockIdx.x == 0) own() = 1.0;
  use(own());
}

void array_of_an_earlier_block(double*) {
  static double array[threads];  // as __shared__ is
  if (blockIdx.x == 0) array[threadIdx.x] = 1.0;
  use(array[threadIdx.x]);
}

void different_instructions(double*) {
  if (threadIdx.x % 2 == 0) {
    use(__shfl_sync(0xffffffffu, 1.0, 0));
  } else {
    use(__any_sync(0xffffffffu, true));
  }
}

void barrier_of_some(double*) {
  if (threadIdx.x > 0) __syncthreads();
}

void shuffle_by_half(double*) { use(__shfl_sync(0xffffu, 1.0, 0)); }

void vote_of_half(double*) { use(__any_sync(0xffffu, true)); }

using Kernel = void (*)(double*);
constexpr Kernel kernels[] = {exchange_among_threads,
                              exchange_in_a_warp,
                              read_what_all_read,
                              do_nothing,
                              read_without_barrier,
                              write_without_barrier,
                              warp_barrier_among_warps,
                              shuffle_as_barrier,
                              one_word_for_two_blocks,
                              write_what_the_first_block_reads,
                              past_the_end,
                              past_the_shared_memory,
                              load_between_vectors,
                              store_between_vectors,
                              copy_between_vectors,
                              shared_memory_of_nobody,
                              shared_memory_of_an_earlier_block,
                              array_of_an_earlier_block,
                              different_instructions,
                              barrier_of_some,
                              shuffle_by_half,
                              vote_of_half};

}  // namespace

extern "C" {

void emulate_kernel(int number) {
  namespace watch = emulation::watch;
  watch::set_shared(shared, sizeof shared);
  watch::allow_nothing();
  const auto numbers = std::make_unique<uint4[]>(blocks * threads / 2);  // the device's memory
  watch::allow(numbers.get(), blocks * threads * sizeof(double));
  CUstream_st stream;
  const cudaLaunchConfig_t config{blocks, threads, threads * sizeof(double), &stream};
  cudaLaunchKernelEx(&config, kernels[number], reinterpret_cast<double*>(numbers.get()));
}

// How the launch of a sound kernel ends where device 0 is current: so many bytes of shared memory
// are reserved for the kernel of that number, and the stream is a device's, or, for −1, the
// default.
const char* emulate_launch(unsigned grid, unsigned block, int shared_bytes, int reserved,
                           int reserved_for, int device_of_stream) {
  emulation::devices[0].reserved.clear();
  CUstream_st stream{.device = device_of_stream};
  const cudaLaunchConfig_t config{grid, block, static_cast<std::size_t>(shared_bytes),
                                  device_of_stream < 0 ? nullptr : &stream};
  auto error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernels[reserved_for]),
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, reserved);
  if (error == cudaSuccess) {
    error = cudaLaunchKernelEx(&config, do_nothing, static_cast<double*>(nullptr));
  }
  return cudaGetErrorString(error);
}
}
