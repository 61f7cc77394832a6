// AVX2 with FMA and F16C: compiled with the flags that CMakeLists.txt gives to this file alone.
#include <immintrin.h>

#include "gramian/kernels.hpp"

namespace pyfront {
namespace {

#include "gramian/rounding.inl"

struct Simd {
  using Vector = __m256d;
  using Bits = __v4di;
  static constexpr const char* name = "avx2";
  static constexpr int lanes = 4;
  static constexpr int tile_rows = 2;   // that fit the registers beside four columns
  static constexpr int rows_below = 0;  // that fit beside a triangle of four

  static Vector broadcast(double x) { return _mm256_set1_pd(x); }
  static Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_pd(a, b, c); }

  static Vector load(const double* p) { return _mm256_loadu_pd(p); }
  static Vector load(const float* p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
  static Vector load(const BFloat16* p) {
    const __m128i bits = _mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i*)p));
    return _mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32(bits, 16)));
  }
  static Vector load(const Float16* p) {
    return _mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64((const __m128i*)p)));
  }

  static void store(double* p, Vector x) { _mm256_storeu_pd(p, x); }
  static void store(float* p, Vector x) { _mm_storeu_ps(p, _mm256_cvtpd_ps(x)); }
  static void store(BFloat16* p, Vector x) { _mm_storel_epi64((__m128i*)p, narrow(p, x)); }
  static void store(Float16* p, Vector x) { _mm_storel_epi64((__m128i*)p, narrow(p, x)); }

  static void stream(double* p, Vector x) { _mm256_stream_pd(p, x); }
  static void stream(float* p, Vector x) { _mm_stream_ps(p, _mm256_cvtpd_ps(x)); }
  static void stream(BFloat16* p, Vector x) { stream64(p, narrow(p, x)); }
  static void stream(Float16* p, Vector x) { stream64(p, narrow(p, x)); }
  static void fence() { _mm_sfence(); }

 private:
  static __m128i narrow(const BFloat16*, Vector x) {
    const __m128 wide = _mm256_cvtpd_ps(round_to_bfloat16<Bits>(x));
    const __m128i bits = _mm_srli_epi32(_mm_castps_si128(wide), 16);
    return _mm_packus_epi32(bits, bits);
  }
  static __m128i narrow(const Float16*, Vector x) {
    return _mm_cvtps_ph(_mm256_cvtpd_ps(round_to_float16<Bits>(x)), _MM_FROUND_TO_NEAREST_INT);
  }
  static void stream64(void* p, __m128i x) {
    _mm_stream_si64(static_cast<long long*>(p), _mm_cvtsi128_si64(x));
  }
};

#include "gramian/loops.inl"

}  // namespace

const GramianKernels gramian_kernels_avx2 = kernels;

}  // namespace pyfront
