#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

namespace soak {

// Reads a fuzzer's input; what lies beyond its end is zero.
class Bytes {
 public:
  explicit Bytes(std::span<const std::uint8_t> data) : data_(data) {}

  template <class T>
  T take() {
    T value{};
    const auto count = std::min(sizeof(T), data_.size());
    std::memcpy(&value, data_.data(), count);
    data_ = data_.subspan(count);
    return value;
  }
  int below(int bound) { return take<std::uint8_t>() % bound; }
  // 10^x for x between the bounds
  double power(double low, double high) {
    return std::pow(10.0, low + (high - low) * take<std::uint8_t>() / 255.0);
  }
  bool empty() const { return data_.empty(); }

 private:
  std::span<const std::uint8_t> data_;
};

struct Jacobian {
  int rows = 0;
  int columns = 0;
  double decades = 0.0;  // lengths are between 10^−decades and 10^decades
  std::vector<double> values;

  double* row(int i) { return values.data() + i * columns; }
  const double* row(int i) const { return values.data() + i * columns; }
};

// Rows of the kinds that training produces: one byte names the kind of each row, further ones what
// it depends on, how closely, and its length. The rest is drawn from a seed in the input.
inline Jacobian read_jacobian(Bytes& bytes, int most_rows) {
  enum Kind { independent, copied, opposed, combined, zero, integers };
  Jacobian j;
  j.rows = 1 + bytes.below(most_rows);
  j.columns = std::max(1, j.rows + 2 - bytes.below(j.rows + 2));
  j.values.resize(static_cast<std::size_t>(j.rows * j.columns));
  std::mt19937_64 engine(bytes.take<std::uint16_t>());
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform(-1.0, 1.0);
  j.decades = bytes.below(4) == 0 ? bytes.below(9) : 0;
  const double likeness = bytes.power(-17, -1);
  for (int i = 0; i < j.rows; ++i) {
    const auto kind = static_cast<Kind>(bytes.below(6));
    const int other = i == 0 ? 0 : bytes.below(i);
    const double length = std::pow(10.0, j.decades * uniform(engine));
    const double share = std::abs(normal(engine));
    for (int k = 0; k < j.columns; ++k) {
      const double noise = normal(engine);
      const double near = 1.0 + likeness * noise;
      const double from = j.row(other)[k];
      double value = noise;
      if (i > 0 && kind == copied) value = from * near;
      if (i > 0 && kind == opposed) value = -from * near;
      if (i > 1 && kind == combined) {
        value = -(share * from + j.row((other + 1) % i)[k]) * near;
      }
      if (kind == zero) value = 0.0;
      if (kind == integers) value = std::round(2.0 * noise);
      j.row(i)[k] = value * length;
    }
  }
  return j;
}

// C = J Jᵀ in float64, as a product of matrices gives it: symmetric, semidefinite up to rounding.
inline std::vector<double> gramian(const Jacobian& j) {
  const auto m = static_cast<std::size_t>(j.rows);
  std::vector<double> c(m * m);
  for (int i = 0; i < j.rows; ++i) {
    for (int k = 0; k <= i; ++k) {
      double sum = 0.0;
      for (int l = 0; l < j.columns; ++l) sum += j.row(i)[l] * j.row(k)[l];
      c[static_cast<std::size_t>(i) * m + static_cast<std::size_t>(k)] = sum;
      c[static_cast<std::size_t>(k) * m + static_cast<std::size_t>(i)] = sum;
    }
  }
  return c;
}

}  // namespace soak
