// AVX-512 (F): compiled with the flags that CMakeLists.txt gives to this file alone.
#include <immintrin.h>

#include "gramian/kernels.hpp"

namespace pyfront {
namespace {

#include "gramian/rounding.inl"

struct Simd {
  using Vector = __m512d;
  using Bits = __v8di;
  static constexpr const char* name = "avx512";
  static constexpr int lanes = 8;
  static constexpr int tile_rows = 4;   // that fit the registers beside four columns
  static constexpr int rows_below = 4;  // that fit beside a triangle of four

  static Vector broadcast(double x) { return _mm512_set1_pd(x); }
  static Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_pd(a, b, c); }

  static Vector load(const double* p) { return _mm512_loadu_pd(p); }
  static Vector load(const float* p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
  static Vector load(const BFloat16* p) {
    const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
    return _mm512_cvtps_pd(_mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)));
  }
  static Vector load(const Float16* p) {
    return _mm512_cvtps_pd(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)));
  }

  static void store(double* p, Vector x) { _mm512_storeu_pd(p, x); }
  static void store(float* p, Vector x) { _mm256_storeu_ps(p, _mm512_cvtpd_ps(x)); }
  static void store(BFloat16* p, Vector x) { _mm_storeu_si128((__m128i*)p, narrow(p, x)); }
  static void store(Float16* p, Vector x) { _mm_storeu_si128((__m128i*)p, narrow(p, x)); }

  static void stream(double* p, Vector x) { _mm512_stream_pd(p, x); }
  static void stream(float* p, Vector x) { _mm256_stream_ps(p, _mm512_cvtpd_ps(x)); }
  static void stream(BFloat16* p, Vector x) { _mm_stream_si128((__m128i*)p, narrow(p, x)); }
  static void stream(Float16* p, Vector x) { _mm_stream_si128((__m128i*)p, narrow(p, x)); }
  static void fence() { _mm_sfence(); }

 private:
  static __m128i narrow(const BFloat16*, Vector x) {
    const __m256 wide = _mm512_cvtpd_ps(round_to_bfloat16<Bits>(x));
    return _mm256_castsi256_si128(_mm512_cvtepi32_epi16(
        _mm512_castsi256_si512(_mm256_srli_epi32(_mm256_castps_si256(wide), 16))));
  }
  static __m128i narrow(const Float16*, Vector x) {
    return _mm256_cvtps_ph(_mm512_cvtpd_ps(round_to_float16<Bits>(x)), _MM_FROUND_TO_NEAREST_INT);
  }
};

#include "gramian/loops.inl"

}  // namespace

const GramianKernels gramian_kernels_avx512 = kernels;

}  // namespace pyfront
