#pragma once

#include "common/team.hpp"

namespace pyfront {

// a · b = product + error, exactly (Dekker; no fused multiply-add on the baseline).
PYFRONT_HOST_DEVICE inline void multiply_exactly(double a, double b, double& product,
                                                 double& error) {
  constexpr double splitter = 0x1p27 + 1;
  const double a_shifted = splitter * a;
  const double b_shifted = splitter * b;
  const double a_high = a_shifted - (a_shifted - a);
  const double b_high = b_shifted - (b_shifted - b);
  const double a_low = a - a_high;
  const double b_low = b - b_high;
  product = a * b;
  error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
}

// (sum, error) ← sum + error + a · b, with the rounding of the sum kept in `error` (Knuth).
PYFRONT_HOST_DEVICE inline void accumulate_exactly(double a, double b, double& sum, double& error) {
  double product;
  double product_error;
  multiply_exactly(a, b, product, product_error);
  const double total = sum + product;
  const double shifted = total - sum;
  error += product_error + ((sum - (total - shifted)) + (product - shifted));
  sum = total;
}

}  // namespace pyfront
