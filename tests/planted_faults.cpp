// Kernels with one fault each, and sound ones: what test_watch.py must find and leave alone.

#include <cstddef>
#include <memory>

#include "cuda_runtime.h"  // the emulated one

extern "C" {
__attribute__((visibility("hidden"))) extern const char __ehdr_start;
__attribute__((visibility("hidden"))) extern const char _end;
}

namespace {

constexpr unsigned threads = 64;
constexpr unsigned blocks = 2;

double shared[256];

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

void vector_between_vectors(double* out) {
  const auto* const address = reinterpret_cast<const uint4*>(out + 1);
  use(__ldg(address).x);
}

void shared_memory_of_nobody(double*) { use(own()); }

using Kernel = void (*)(double*);
constexpr Kernel kernels[] = {
    exchange_among_threads, exchange_in_a_warp,      read_what_all_read,
    read_without_barrier,   write_without_barrier,   warp_barrier_among_warps,
    shuffle_as_barrier,     one_word_for_two_blocks, write_what_the_first_block_reads,
    past_the_end,           past_the_shared_memory,  vector_between_vectors,
    shared_memory_of_nobody};

}  // namespace

extern "C" void emulate_kernel(int number) {
  namespace watch = emulation::watch;
  watch::set_image(&__ehdr_start, &_end, shared, sizeof shared);
  watch::allow_nothing();
  const auto numbers = std::make_unique<uint4[]>(blocks * threads / 2);  // the device's memory
  watch::allow(numbers.get(), blocks * threads * sizeof(double));
  cudaLaunchConfig_t config;
  config.gridDim = blocks;
  config.blockDim = threads;
  config.dynamicSmemBytes = threads * sizeof(double);
  cudaLaunchKernelEx(&config, kernels[number], reinterpret_cast<double*>(numbers.get()));
}
