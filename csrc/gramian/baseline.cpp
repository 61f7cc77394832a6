// Any processor: two lanes that the compiler maps to SSE2 or NEON, float16 by integer arithmetic.
#include "gramian/kernels.hpp"

namespace pyfront {
namespace {

#include "gramian/rounding.inl"

struct Simd {
  typedef double Vector __attribute__((vector_size(16)));
  typedef std::int64_t Bits __attribute__((vector_size(16)));
  static constexpr const char* name = "baseline";
  static constexpr int lanes = 2;
  static constexpr int tile_rows = 2;   // that fit the registers beside four columns
  static constexpr int rows_below = 0;  // that fit beside a triangle of four

  static Vector broadcast(double x) { return Vector{x, x}; }
  static Vector fma(Vector a, Vector b, Vector c) { return a * b + c; }

  template <class T>
  static Vector load(const T* p) {
    T x[lanes];
    __builtin_memcpy(x, p, sizeof x);
    return Vector{to_double(x[0]), to_double(x[1])};
  }
  template <class T>
  static void store(T* p, Vector x) {
    T out[lanes];
    narrow(out, x);
    __builtin_memcpy(p, out, sizeof out);
  }
  template <class T>
  static void stream(T* p, Vector x) {
    store(p, x);
  }
  static void fence() {}

 private:
  static double to_double(double x) { return x; }
  static double to_double(float x) { return static_cast<double>(x); }
  static double to_double(BFloat16 x) {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(x) << 16);
  }
  // The exponent and the mantissa of a float16, read as a float32's, are 2^112 times too small.
  static double to_double(Float16 x) {
    const auto bits = static_cast<std::uint32_t>(x);
    const std::uint32_t special = (bits & 0x7c00u) == 0x7c00u ? 0x70000000u : 0u;  // ∞ and NaN
    const auto magnitude = __builtin_bit_cast(float, ((bits & 0x7fffu) << 13) | special);
    const double value = special != 0 ? magnitude : static_cast<double>(magnitude) * 0x1p112;
    return (bits & 0x8000u) != 0 ? -value : value;
  }
  static void narrow(double* out, Vector x) { __builtin_memcpy(out, &x, sizeof x); }
  static void narrow(float* out, Vector x) {
    for (int i = 0; i < lanes; ++i) out[i] = static_cast<float>(x[i]);
  }
  static void narrow(BFloat16* out, Vector x) {
    x = round_to_bfloat16<Bits>(x);
    for (int i = 0; i < lanes; ++i) {
      const auto bits = __builtin_bit_cast(std::uint32_t, static_cast<float>(x[i]));
      out[i] = static_cast<BFloat16>(bits >> 16);
    }
  }
  static void narrow(Float16* out, Vector x) {
    x = round_to_float16<Bits>(x);
    for (int i = 0; i < lanes; ++i) out[i] = to_float16(static_cast<float>(x[i]));
  }
  // x is a float16 number, or beyond the range, or NaN.
  static Float16 to_float16(float x) {
    const auto bits = __builtin_bit_cast(std::uint32_t, x);
    const std::uint32_t sign = (bits >> 16) & 0x8000u;
    const auto magnitude = __builtin_bit_cast(float, bits & 0x7fffffffu);
    if (magnitude != magnitude) return static_cast<Float16>(sign | 0x7e00u);
    if (magnitude >= 65536.0f) return static_cast<Float16>(sign | 0x7c00u);
    const auto small = __builtin_bit_cast(std::uint32_t, magnitude * 0x1p-112f);
    return static_cast<Float16>(sign | (small >> 13));
  }
};

#include "gramian/loops.inl"

}  // namespace

const GramianKernels gramian_kernels_baseline = kernels;

}  // namespace pyfront
