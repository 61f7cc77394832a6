// Part of gramian_<set>.cpp, before its `Simd`.

// Rounds float64 to `bits` significant bits, ties to even, with the spacing of the smallest normal
// number 2^min_exponent below it: adding and subtracting 1.5 · 2^(52 + exponent of the last place)
// leaves just these bits. What is beyond the type's range stays there for the conversion to make ∞.
template <int bits, int min_exponent, class Vector, class Bits>
Vector round_to(Vector x) {
  constexpr std::int64_t bias = 1023;
  const Bits exponent_mask = Bits{} + (std::int64_t{0x7ff} << 52);
  const Bits sign_mask = Bits{} + (std::int64_t{1} << 63);
  const Vector low = (Vector)(Bits{} + ((bias + min_exponent) << 52));
  const Vector high = (Vector)(Bits{} + ((bias + 200) << 52));
  Vector power = (Vector)((Bits)x & exponent_mask);  // 2^exponent, or ∞
  power = power < low ? low : power;
  power = power > high ? high : power;
  const Vector shift = power * (1.5 * static_cast<double>(std::int64_t{1} << (53 - bits)));
  const Vector rounded = (x + shift) - shift;
  return (Vector)((Bits)rounded | ((Bits)x & sign_mask));  // keeps −0
}
template <class Bits, class Vector>
Vector round_to_bfloat16(Vector x) {
  return round_to<8, -126, Vector, Bits>(x);
}
template <class Bits, class Vector>
Vector round_to_float16(Vector x) {
  return round_to<11, -14, Vector, Bits>(x);
}
